//! patina-core: Gaussian process tests and histology for spatial gene expression, without R.
//!
//! The model of one gene over n locations is `y = B beta + f + e`, `f ~ N(0, s2 K)`, `e ~ N(0, s2 delta I)`
//! (Svensson, Teichmann, Stegle 2018, doi:10.1038/nmeth.4636). The modules follow the computation:
//! [`locations`], [`kernel`] and [`spectrum`] turn coordinates into eigenpairs.

mod cholesky;
pub mod error;
pub mod interrupt;
pub mod kernel;
pub mod krylov;
mod landmarks;
pub mod likelihood;
pub mod locations;
mod log_det;
pub mod model_search;
pub mod null;
pub mod patterns;
pub mod qvalue;
pub mod spatial_test;
pub mod spectrum;
pub mod storage;
#[cfg(test)]
mod testing;
mod tree;

pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use kernel::Kernel;
pub use locations::Locations;
pub use null::NullForms;
pub use spatial_test::SpatialTest;
pub use spectrum::{Approximation, Spectrum};
