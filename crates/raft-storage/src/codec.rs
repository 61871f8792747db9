//! Little-endian fields of fixed layouts, read without trust (rule 11).

/// Takes fields off the front of a slice. Every `take_` gives `None` where the bytes end too early.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn take_u8(&mut self) -> Option<u8> {
        self.take_array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn take_u32(&mut self) -> Option<u32> {
        self.take_array().map(u32::from_le_bytes)
    }

    pub(crate) fn take_u64(&mut self) -> Option<u64> {
        self.take_array().map(u64::from_le_bytes)
    }

    pub(crate) fn take_u128(&mut self) -> Option<u128> {
        self.take_array().map(u128::from_le_bytes)
    }

    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Overwrites the bytes at `at` with `field`.
///
/// # Panics
/// If the buffer ends before: layouts are constants, so that is our bug.
pub(crate) fn put_at(buffer: &mut [u8], at: usize, field: &[u8]) {
    let end = at + field.len();
    buffer.get_mut(at..end).expect("a layout fits its buffer").copy_from_slice(field);
}
