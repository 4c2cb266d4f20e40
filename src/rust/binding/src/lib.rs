//! R's way into patina-core: conversions and nothing else.

mod convert;
mod depth;
mod factors;
mod fields;
mod patterns;
mod qvalue;
mod run;
mod spatial_test;

use extendr_api::prelude::*;

/// Keeps errors from printing: they reach R as conditions, by way of a panic.
/// @noRd
#[extendr]
fn rust_silence_panics() {
    std::panic::set_hook(Box::new(|_| ()));
}

/// Bytes of memory that may still be used; infinite where the system does not say.
/// @noRd
#[extendr]
fn rust_available_memory() -> f64 {
    patina_core::memory::available()
}

extendr_module! {
    mod patina;
    fn rust_available_memory;
    fn rust_silence_panics;
    use depth;
    use factors;
    use fields;
    use patterns;
    use qvalue;
    use spatial_test;
}
