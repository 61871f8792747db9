//! The syntax of sizes and durations in flags, variables and the file: `65536`, `64KiB`, `64MiB`, `1GiB`; `150ms`, `2s`.
//!
//! One spelling a value, no fractions and no sign: what is printed by [`ByteSize`] and [`Period`] reads back as the
//! same value.

use std::fmt;
use std::time::Duration;

/// Units of sizes, largest first.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Why a size, a duration or a number cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing is there.
    #[error("the value is empty")]
    Empty,
    /// It begins with a minus sign.
    #[error("a negative value is not possible")]
    Negative,
    /// It does not begin with digits.
    #[error("a number is wanted")]
    NotANumber,
    /// It has a decimal point.
    #[error("fractions are not read; write it in the next smaller unit")]
    Fraction,
    /// A size's unit is unknown.
    #[error("\"{unit}\" is no unit of sizes; write plain bytes, or KiB, MiB, GiB")]
    UnknownSizeUnit {
        /// What was found.
        unit: String,
    },
    /// A duration's unit is unknown.
    #[error("\"{unit}\" is no unit of durations; write ms or s")]
    UnknownDurationUnit {
        /// What was found.
        unit: String,
    },
    /// A duration has no unit.
    #[error("a duration needs a unit; write {number}ms or {number}s")]
    MissingUnit {
        /// The number.
        number: u64,
    },
    /// A plain number has something behind it.
    #[error("a plain number is wanted, without \"{rest}\"")]
    TrailingText {
        /// What was found.
        rest: String,
    },
    /// It does not fit 64 bits.
    #[error("the value is too large")]
    TooLarge,
}

/// Reads a plain number.
///
/// # Errors
/// A [`UnitError`] for anything but decimal digits that fit 64 bits.
pub fn parse_number(text: &str) -> Result<u64, UnitError> {
    let (number, rest) = split_number(text)?;
    if rest.is_empty() { Ok(number) } else { Err(UnitError::TrailingText { rest: shorten(rest) }) }
}

/// Reads a size in bytes: an integer, or one with `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// A [`UnitError`] that says what is wrong.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text)?;
    let factor = if unit.is_empty() {
        1
    } else {
        let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
        known.ok_or_else(|| UnitError::UnknownSizeUnit { unit: shorten(unit) })?.1
    };
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// Reads a duration: an integer with `ms` or `s`.
///
/// # Errors
/// A [`UnitError`] that says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split_number(text)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "" => return Err(UnitError::MissingUnit { number }),
        unknown => return Err(UnitError::UnknownDurationUnit { unit: shorten(unknown) }),
    };
    milliseconds.map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// The digits at the front as a number, and what follows them.
fn split_number(text: &str) -> Result<(u64, &str), UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    if text.starts_with('-') {
        return Err(UnitError::Negative);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError::NotANumber);
    }
    if rest.starts_with(['.', ',']) {
        return Err(UnitError::Fraction);
    }
    // All are digits, so only the size can be wrong.
    let number = digits.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, rest))
}

/// Text from outside, safe and short enough for one line of an error.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut short = String::new();
    for c in text.chars().take(MAX_CHARS) {
        match c {
            '"' | '\'' | '\\' => short.push(c),
            _ => short.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// Prints a size in the syntax of [`parse_bytes`], in the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Prints a duration of whole milliseconds in the syntax of [`parse_duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds > 0 && milliseconds.is_multiple_of(1_000) {
            write!(f, "{}s", milliseconds / 1_000)
        } else {
            write!(f, "{milliseconds}ms")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        let table = [
            ("0", Ok(0)),
            ("4096", Ok(4096)),
            ("64KiB", Ok(64 << 10)),
            ("64MiB", Ok(64 << 20)),
            ("1GiB", Ok(1 << 30)),
            (" 7 ", Ok(7)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(UnitError::TooLarge)),
            ("17179869184GiB", Err(UnitError::TooLarge)),
            ("", Err(UnitError::Empty)),
            ("-1", Err(UnitError::Negative)),
            ("KiB", Err(UnitError::NotANumber)),
            ("1.5MiB", Err(UnitError::Fraction)),
            ("64MB", Err(UnitError::UnknownSizeUnit { unit: "MB".into() })),
            ("64mib", Err(UnitError::UnknownSizeUnit { unit: "mib".into() })),
            ("٣", Err(UnitError::NotANumber)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        let table = [
            ("150ms", Ok(Duration::from_millis(150))),
            ("2s", Ok(Duration::from_secs(2))),
            ("0ms", Ok(Duration::ZERO)),
            ("150", Err(UnitError::MissingUnit { number: 150 })),
            ("-5ms", Err(UnitError::Negative)),
            ("1.5s", Err(UnitError::Fraction)),
            ("5m", Err(UnitError::UnknownDurationUnit { unit: "m".into() })),
            ("5 ms", Err(UnitError::UnknownDurationUnit { unit: " ms".into() })),
            ("18446744073709551615s", Err(UnitError::TooLarge)),
            ("99999999999999999999ms", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(number in any::<u64>(), shift in 0_u32..40) {
            let bytes = (number >> 40) << shift;
            prop_assert_eq!(parse_bytes(&ByteSize(bytes).to_string()), Ok(bytes));
            prop_assert_eq!(parse_bytes(&ByteSize(number).to_string()), Ok(number));
        }

        #[test]
        fn a_printed_duration_reads_back(milliseconds in any::<u64>(), seconds in 0_u64..1 << 40) {
            for period in [Duration::from_millis(milliseconds), Duration::from_secs(seconds)] {
                prop_assert_eq!(parse_duration(&Period(period).to_string()), Ok(period));
            }
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC*") {
            let _ = (parse_bytes(&text), parse_duration(&text), parse_number(&text));
        }

        #[test]
        fn an_error_is_one_line(text in any::<String>()) {
            for error in [parse_bytes(&text).err(), parse_duration(&text).err()].into_iter().flatten() {
                prop_assert!(!error.to_string().contains(|c: char| c.is_control()));
            }
        }
    }
}
