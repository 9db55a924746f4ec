//! Padding that hides lengths.

/// Rounds `len` up so that it shows little more than its order of magnitude: O(log log len) bits,
/// for at most 12 % of more bytes (Padmé; Nikitin et al., PETS 2019; `docs/format.md` §6.2).
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1u64 << exponent.saturating_sub(kept_bits)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padme_matches_the_paper() {
        for (len, padded) in [
            (1, 1),
            (8, 8),
            (9, 10),
            (4096, 4096),
            (4097, 4352),
            (8_388_609, 8_650_752),
        ] {
            assert_eq!(padme(len), padded, "{len}");
        }
        for len in 1..100_000u64 {
            let padded = padme(len);
            assert!(padded >= len && padme(padded) == padded && (padded - len) as f64 <= 0.12 * len as f64);
        }
    }
}
