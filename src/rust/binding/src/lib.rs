//! R's way into patina-core: conversions and nothing else.

mod convert;
mod patterns;
mod qvalue;
mod spatial_test;

use extendr_api::prelude::*;

extendr_module! {
    mod patina;
    use patterns;
    use qvalue;
    use spatial_test;
}
