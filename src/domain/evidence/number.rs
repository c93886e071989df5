//! Exact passage between counts and floating point numbers.
//!
//! Role: the only place where counters change their type. Inputs and outputs: numbers. Must never import: anything.

/// The largest count that a 64-bit float holds exactly, together with every smaller one.
pub const MAX_EXACT: u64 = 1 << 53;

/// A count as a float; exact up to 2^53, the nearest float beyond.
#[must_use]
pub fn to_f64(count: u64) -> f64 {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(count >> 32) * 4_294_967_296.0 + half(count)
}

/// A float as a count, if it is a whole number from 0 to 2^53.
#[must_use]
pub fn to_count(value: f64) -> Option<u64> {
    if value == 0.0 {
        return Some(0);
    }
    if !(value >= 1.0 && value <= to_f64(MAX_EXACT)) || value.fract() != 0.0 {
        return None;
    }
    let bits = value.to_bits();
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    let exponent = (bits >> 52) & 0x7ff;
    // 1023 is the exponent of 1; the mantissa carries 52 bits behind the point.
    let shift = exponent.checked_sub(1023)?;
    Some(if shift <= 52 { mantissa >> (52 - shift) } else { mantissa << (shift - 52) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_numbers_that_are_exact_are_counts() {
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_994.0, 1e300] {
            assert_eq!(to_count(bad), None, "{bad}");
        }
        assert_eq!(to_count(9_007_199_254_740_992.0), Some(MAX_EXACT));
        assert_eq!(to_count(-0.0), Some(0));
    }

    proptest! {
        #[test]
        fn counts_come_back(count in 0..=MAX_EXACT) {
            prop_assert_eq!(to_count(to_f64(count)), Some(count));
        }
    }
}
