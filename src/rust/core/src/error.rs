//! The errors of the core, one variant for each thing a caller can get wrong.

use thiserror::Error;

/// What can be wrong with the input of the core's functions.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Too few locations for the method.
    #[error("there are {n} locations, and at least {needed} are needed")]
    TooFewLocations {
        /// Locations given.
        n: usize,
        /// Locations needed.
        needed: usize,
    },
    /// Coordinates must have one to three dimensions.
    #[error("locations have {0} coordinates, and 1, 2 or 3 are allowed")]
    Dimension(usize),
    /// A coordinate is NaN or infinite.
    #[error("location {0} has a coordinate that is not finite")]
    NonFiniteLocation(usize),
    /// All locations are the same point.
    #[error("all locations are identical")]
    IdenticalLocations,
    /// No kernel's function varies enough over the locations for a calibrated p-value.
    #[error(
        "no kernel varies over the locations: all lengthscales are far too short or far too long for them"
    )]
    ConstantKernels,
    /// Two arguments that describe the same things differ in size.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// The quantity.
        what: &'static str,
        /// The size it should have.
        expected: usize,
        /// The size it has.
        got: usize,
    },
    /// A parameter is outside its range.
    #[error("{name} is {value}, and must be {must_be}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        must_be: &'static str,
    },
    /// No engine can take this kernel over so many locations.
    #[error("{n} locations are too many for the {kernel} kernel of lengthscale {scale:.4}")]
    Unsupported {
        /// The kernel's name.
        kernel: &'static str,
        /// Its lengthscale or period.
        scale: f64,
        /// Locations given.
        n: usize,
    },
    /// A sparse matrix does not suit a kernel that is so wide.
    #[error(
        "the {kernel} kernel of lengthscale {scale:.4} is too wide for a sparse matrix over {n} locations"
    )]
    TooWide {
        /// The kernel's name.
        kernel: &'static str,
        /// Its lengthscale.
        scale: f64,
        /// Locations given.
        n: usize,
    },
    /// The engines that were chosen take more memory than there is.
    #[error("about {:.1} GB of memory are needed, and {:.1} GB are available", .needed / 1e9, .available / 1e9)]
    Memory {
        /// Bytes needed.
        needed: f64,
        /// Bytes available.
        available: f64,
    },
    /// A decomposition did not converge.
    #[error("the eigendecomposition of the {0} kernel did not converge")]
    NoConvergence(String),
    /// A file could not be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// The system gives no threads.
    #[error("threads cannot be started: {0}")]
    Threads(String),
    /// Somebody asked for the work to end.
    #[error("the work was interrupted")]
    Interrupted,
    /// Serialised data could not be read.
    #[error("serialised data is damaged: {0}")]
    Damaged(&'static str),
}

/// The core's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// That a quantity has the size it should have.
pub(crate) fn check_size(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}
