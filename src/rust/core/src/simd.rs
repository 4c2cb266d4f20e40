//! Loops in the vector instructions that the processor has.

/// What a closure that can be called once only takes.
pub(crate) struct Once;

impl Once {
    /// Takes it.
    #[inline(always)]
    pub fn spend(self) {}
}

/// The value of an expression whose loops are compiled for each set of vector instructions, with all that is inlined into
/// it; closures in it need `#[inline(always)]`. The order of operations stays as it is written, so that the value does not
/// depend on the processor.
macro_rules! vectorized {
    ($body:expr) => {{
        let once = $crate::simd::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                // One that could be called again would be called through a function without vector instructions.
                once.spend();
                $body
            },
        )
    }};
}

pub(crate) use vectorized;

/// Σ x y, in a fixed order whatever the hardware.
#[inline(always)]
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    dot_by::<8, f64>(x, y)
}

/// The same in so many lanes, of numbers that may have single precision.
#[inline(always)]
pub(crate) fn dot_by<const LANES: usize, T: Copy + Into<f64>>(x: &[T], y: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let mut rest = 0.0;
    for (&x, y) in a.remainder().iter().zip(b.remainder()) {
        rest += x.into() * y;
    }
    for (x, y) in a.zip(b) {
        for k in 0..LANES {
            lanes[k] += x[k].into() * y[k];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// exp(x) for x <= 0, and for those below -700 what it is there; without branches. From so many terms of the series, of
/// which 13 are the most: 10 are within 1e-11 of it, 13 within 1e-15.
#[inline(always)]
pub(crate) fn exp_negative<const TERMS: usize>(x: f64) -> f64 {
    /// Adding it rounds to an integer, which is then in the last bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// ln(2)^k / k!
    const POWERS: [f64; 13] = [
        1.0,
        std::f64::consts::LN_2,
        0.240_226_506_959_100_7,
        0.055_504_108_664_821_58,
        0.009_618_129_107_628_477,
        0.001_333_355_814_642_844_3,
        0.000_154_035_303_933_816_1,
        1.525_273_380_405_984e-5,
        1.321_548_679_014_431e-6,
        1.017_808_600_923_97e-7,
        7.054_911_620_801_121e-9,
        4.445_538_271_870_81e-10,
        2.567_843_599_348_82e-11,
    ];
    let t = x.max(-700.0) * std::f64::consts::LOG2_E;
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    let mut power = POWERS[TERMS - 1];
    for coefficient in POWERS[..TERMS - 1].iter().rev() {
        power = power * f + coefficient;
    }
    f64::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 52))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_as_near_as_their_terms() {
        for i in 0..200_000 {
            let x = -f64::from(i) * 0.0035;
            let error = |y: f64| (y / x.exp() - 1.0).abs();
            // Of x log2(e), its rounding.
            let rounding = 1e-15 + 2.0 * f64::EPSILON * x.abs();
            assert!(error(exp_negative::<13>(x)) < rounding, "{x}");
            assert!(error(exp_negative::<10>(x)) < 1e-11 + rounding, "{x}");
        }
        assert_eq!(exp_negative::<13>(0.0), 1.0);
        assert_eq!(exp_negative::<13>(-1e300), exp_negative::<13>(-700.0));
    }
}
