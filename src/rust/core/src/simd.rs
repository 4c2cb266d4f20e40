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
