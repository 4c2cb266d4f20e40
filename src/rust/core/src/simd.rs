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
