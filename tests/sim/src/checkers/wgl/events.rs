//! The events of a history that the search has not explained yet (the list of Wing & Gong).

/// The calls and returns of operations not placed, in the order in which they happened: a ring of links, so that an
/// operation is lifted out, and put back where it was, at once. Entry 0 is the head; operation `slot` has its call at
/// `2 * slot + 1` and its return at the next entry.
pub(super) struct Events {
    links: Vec<Link>,
}

#[derive(Clone, Copy, Default)]
struct Link {
    previous: usize,
    next: usize,
}

#[expect(clippy::indexing_slicing, reason = "links name entries, and slots are those the ring was made with")]
impl Events {
    const HEAD: usize = 0;

    /// The ring of operations, each given as the numbers of its call and its return.
    pub(super) fn new(operations: impl Iterator<Item = (u64, u64)>) -> Self {
        // Were two numbers equal, calls would come first: that only ever allows more orders.
        let both = |(slot, (called, returned))| [(called, false, 2 * slot + 1), (returned, true, 2 * slot + 2)];
        let mut order: Vec<(u64, bool, usize)> = operations.enumerate().flat_map(both).collect();
        order.sort_unstable();
        let mut links = vec![Link::default(); order.len() + 1];
        let mut previous = Self::HEAD;
        for (_, _, entry) in order {
            links[previous].next = entry;
            links[entry].previous = previous;
            previous = entry;
        }
        links[previous].next = Self::HEAD;
        links[Self::HEAD].previous = previous;
        Self { links }
    }

    /// Whether every operation is lifted out.
    pub(super) fn is_empty(&self) -> bool {
        self.links[Self::HEAD].next == Self::HEAD
    }

    /// The operations called before the first return, in the order of calling.
    pub(super) fn open_calls(&self) -> impl Iterator<Item = usize> {
        let first = self.links[Self::HEAD].next;
        let calls = std::iter::successors(Some(first), |&entry| Some(self.links[entry].next));
        calls.take_while(|entry| entry % 2 == 1).map(|entry| entry / 2)
    }

    /// Takes an operation out.
    pub(super) fn lift(&mut self, slot: usize) {
        for entry in [2 * slot + 1, 2 * slot + 2] {
            let Link { previous, next } = self.links[entry];
            self.links[previous].next = next;
            self.links[next].previous = previous;
        }
    }

    /// Undoes the latest `lift` that was not undone.
    pub(super) fn unlift(&mut self, slot: usize) {
        for entry in [2 * slot + 2, 2 * slot + 1] {
            let Link { previous, next } = self.links[entry];
            self.links[previous].next = entry;
            self.links[next].previous = entry;
        }
    }
}
