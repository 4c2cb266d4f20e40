//! patina-core: Gaussian process tests and histology for spatial gene expression, without R.
//!
//! The model of one gene over n locations is `y = B beta + f + e`, `f ~ N(0, s2 K)`, `e ~ N(0, s2 delta I)`
//! (Svensson, Teichmann, Stegle 2018, doi:10.1038/nmeth.4636). The modules follow the computation:
//! [`locations`], [`kernel`] and [`spectrum`] turn coordinates into eigenpairs.

pub mod engine;
pub mod error;
#[cfg(test)]
mod fixtures;
mod gene;
pub mod interrupt;
mod kd_tree;
pub mod kernel;
pub mod krylov;
pub mod likelihood;
pub mod locations;
pub mod model;
pub mod model_search;
pub mod null;
pub mod patterns;
pub mod prepare;
pub mod qvalue;
pub mod random;
mod serde_matrix;
pub mod spatial_test;
pub mod spectral;
pub mod spectrum;
pub mod storage;

pub use engine::{Approximation, Request};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use kernel::Kernel;
pub use locations::Locations;
pub use null::NullForms;
pub use spatial_test::SpatialTest;
pub use spectrum::Spectrum;
