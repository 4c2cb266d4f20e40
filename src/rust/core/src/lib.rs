//! patina-core: Gaussian process tests and histology for spatial gene expression, without R.
//!
//! The model of one gene over n locations is `y = B beta + f + e`, `f ~ N(0, s2 K)`, `e ~ N(0, s2 delta I)`
//! (Svensson, Teichmann, Stegle 2018, doi:10.1038/nmeth.4636). The modules follow the computation, and each uses only
//! those above it:
//!
//! - [`locations`] and [`kernel`] are the geometry; [`likelihood`] and [`null`] are the mathematics of one gene, from
//!   sums that they are given;
//! - [`engine`] chooses how each kernel is held: as eigenpairs ([`spectrum`], [`spectral`]) or as a sparse matrix
//!   ([`krylov`]). Both implement the border in [`model`]; [`prepare`] carries the choice out;
//! - [`spatial_test`] tests genes, [`model_search`] compares families of kernels, [`patterns`] groups genes, and
//!   [`qvalue`] and [`storage`] do what their names say.
//!
//! ```
//! use faer::Mat;
//! use patina_core::model_search::compare;
//! use patina_core::patterns::{Settings, find_patterns};
//! use patina_core::qvalue::qvalues;
//! use patina_core::random::SplitMix64;
//! use patina_core::{Approximation, Kernel, Locations, Request, SpatialTest, prepare, scales};
//!
//! // 80 places, and 20 genes, of which the first five follow a wave.
//! let mut random = SplitMix64::new(1, &[]);
//! let coords = Mat::from_fn(80, 2, |_, _| 10.0 * random.uniform());
//! let y = Mat::from_fn(80, 20, |i, g| {
//!     let wave = if g < 5 { 2.0 * (coords[(i, 0)] + 0.1 * g as f64).sin() } else { 0.0 };
//!     wave + random.normal()
//! });
//!
//! // The test: squared exponential kernels of ten lengthscales against two cosines.
//! let locations = Locations::new(coords.as_ref())?;
//! let mut kernels = Vec::new();
//! for lengthscale in scales::spatialde(&locations, 10) {
//!     kernels.push(Kernel::squared_exponential(lengthscale)?);
//! }
//! kernels.extend([Kernel::cosine(4.0)?, Kernel::cosine(6.3)?]);
//! let groups: Vec<usize> = (0..12).map(|k| k / 10).collect();
//! let request = Request::test(Approximation::Auto);
//! let test = SpatialTest::with_groups(&kernels, &groups, locations.clone(), request)?.calibrate()?;
//! let fits = test.fit(y.as_ref())?;
//! let p: Vec<f64> = fits.iter().map(|fit| fit.calibrated.map_or(f64::NAN, |p| p.pval)).collect();
//! let q = qvalues(&p, None)?;
//! let found: Vec<usize> = (0..20).filter(|&g| q[g] < 0.01).collect();
//! assert_eq!(found, [0, 1, 2, 3, 4]);
//! assert!(compare(&fits[0]).is_some_and(|families| families.probabilities[1] > 0.5));
//!
//! // Its genes follow one pattern.
//! let spectra = prepare::spectra(&kernels[6..7], &locations, request)?;
//! let settings = Settings { n_patterns: vec![1, 2], ..Settings::default() };
//! let genes = Mat::from_fn(80, 5, |i, g| y[(i, g)]);
//! let patterns = find_patterns(&spectra, genes.as_ref(), &settings)?;
//! assert_eq!(patterns.assignment, [0; 5]);
//! # Ok::<(), patina_core::Error>(())
//! ```

pub mod cross;
pub mod depth;
pub mod domains;
mod eigen;
pub mod engine;
pub mod error;
pub mod factors;
pub mod field;
#[cfg(test)]
mod fixtures;
mod gene;
pub mod graph;
pub mod grid;
pub mod interrupt;
mod kd_tree;
pub mod kernel;
pub mod krylov;
pub mod likelihood;
pub mod locations;
pub mod memory;
pub mod model;
pub mod model_search;
pub mod moment_fit;
pub mod null;
pub mod patches;
pub mod patterns;
pub mod prepare;
pub mod qvalue;
pub mod random;
pub mod scales;
mod serde_matrix;
mod simd;
pub mod spatial_test;
pub mod spectral;
pub mod spectrum;
pub mod storage;
pub mod unshared;

pub use engine::{Approximation, Request};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use kernel::Kernel;
pub use locations::Locations;
pub use null::NullForms;
pub use spatial_test::SpatialTest;
pub use spectrum::Spectrum;
