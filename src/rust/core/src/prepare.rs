//! Kernels made ready: what [`crate::engine`] has chosen for each is carried out here.

use crate::engine::{Choice, Reason, Request, choose, forms_on_grid};
use crate::error::Result;
use crate::grid::{Beside, Grid, GridModel};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::krylov::Krylov;
use crate::locations::Locations;
use crate::model::Model;
use crate::spectral::Spectral;
use crate::spectrum::{Made, Spectrum};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::Arc;

/// A model of any engine. All that differs between engines is behind [`Model`]; this enum is for files. Clones share what is
/// large.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AnyModel {
    /// By eigenpairs.
    Spectral(Spectral),
    /// By a sparse matrix.
    Krylov(Arc<Krylov>),
    /// By quadratic forms alone.
    Grid(Box<GridModel>),
    /// By one of the others, but for its quadratic forms.
    Beside(Box<Beside>),
    /// By an engine from elsewhere, which cannot be written to a file.
    #[serde(skip)]
    Other(Arc<dyn Model>),
}

impl Deref for AnyModel {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Spectral(model) => model,
            Self::Krylov(model) => model.as_ref(),
            Self::Grid(model) => model.as_ref(),
            Self::Beside(model) => model.as_ref(),
            Self::Other(model) => model.as_ref(),
        }
    }
}

/// Makes kernels ready for a test of genes, side by side in the current rayon pool. `None` for kernels that oscillate too
/// fast for so many locations.
///
/// # Errors
/// Where no engine can take another kernel, or there is too little memory: before anything is computed.
pub fn models(kernels: &[Kernel], locations: &Locations, request: Request) -> Result<Vec<Option<AnyModel>>> {
    let choices = choose(kernels, locations, request);
    // The kernels of a grid are planned together, before anything is computed.
    let beside = forms_on_grid(locations, request);
    let on_grid = |(kernel, choice): (&Kernel, &Choice)| {
        let forms = beside && kernel.has_meshes() && !matches!(choice, Choice::Unsupported(_));
        (*choice == Choice::Grid || forms).then(|| kernel.scale())
    };
    let mut lengthscales: Vec<f64> = kernels.iter().zip(&choices).filter_map(on_grid).collect();
    lengthscales.sort_by(f64::total_cmp);
    lengthscales.dedup();
    let grid =
        if lengthscales.is_empty() { None } else { Some(Arc::new(Grid::new(&lengthscales, locations)?)) };
    carry_out(kernels, &choices, locations, |kernel, choice| {
        let own = || {
            let index = lengthscales.partition_point(|l| *l < kernel.scale());
            grid.as_ref().filter(|_| kernel.has_meshes()).map(|grid| GridModel::new(grid, index)).transpose()
        };
        Ok(match (choice, own()?) {
            (Choice::Grid, Some(own)) => Some(AnyModel::Grid(Box::new(own))),
            (_, Some(own)) if beside => model(kernel, choice, locations)?
                .map(|likelihood| AnyModel::Beside(Box::new(Beside::new(likelihood, own)))),
            _ => model(kernel, choice, locations)?,
        })
    })
}

/// The spectra of kernels, for patterns.
///
/// # Errors
/// Where a spectrum is not affordable: before anything is computed.
pub fn spectra(kernels: &[Kernel], locations: &Locations, request: Request) -> Result<Vec<Spectrum>> {
    let request = Request { eigenpairs: true, ..request };
    let choices = choose(kernels, locations, request);
    let made = carry_out(kernels, &choices, locations, |kernel, choice| {
        Ok(match model(kernel, choice, locations)? {
            Some(AnyModel::Spectral(model)) => Some(model.into_spectrum()),
            _ => None,
        })
    })?;
    let check = |(spectrum, &kernel): (Option<Spectrum>, &Kernel)| {
        spectrum.ok_or_else(|| Reason::TooFine.error(kernel, locations.len()))
    };
    made.into_iter().zip(kernels).map(check).collect()
}

fn carry_out<T: Send>(
    kernels: &[Kernel],
    choices: &[Choice],
    locations: &Locations,
    make: impl Fn(Kernel, &Choice) -> Result<Option<T>> + Sync,
) -> Result<Vec<Option<T>>> {
    for (&kernel, choice) in kernels.iter().zip(choices) {
        if let Choice::Unsupported(reason) = choice {
            may_be_left_out(*reason, kernel, locations)?;
        }
    }
    interrupt::expect(kernels.len());
    let make = |(&kernel, choice): (&Kernel, &Choice)| {
        interrupt::check()?;
        let made = make(kernel, choice);
        interrupt::step();
        made
    };
    kernels.par_iter().zip(choices).with_max_len(1).map(make).collect()
}

/// A kernel that is too fine is left out, and the others are not lost.
fn may_be_left_out(reason: Reason, kernel: Kernel, locations: &Locations) -> Result<()> {
    if reason == Reason::TooFine { Ok(()) } else { Err(reason.error(kernel, locations.len())) }
}

fn model(kernel: Kernel, choice: &Choice, locations: &Locations) -> Result<Option<AnyModel>> {
    match choice {
        Choice::Spectrum(how) => match Spectrum::by(how, kernel, locations)? {
            Made::Spectrum(spectrum) => Ok(Some(AnyModel::Spectral(spectrum.into()))),
            Made::Otherwise(next) => model(kernel, &next, locations),
        },
        Choice::Krylov { width, apart } => {
            let krylov = Krylov::new(kernel, locations, *width, *apart)?;
            Ok(Some(AnyModel::Krylov(Arc::new(krylov))))
        }
        // Those of a test are made together.
        Choice::Grid => Err(Reason::TooLarge.error(kernel, locations.len())),
        Choice::Unsupported(reason) => may_be_left_out(*reason, kernel, locations).map(|()| None),
    }
}

/// The same kernel with a dense spectrum, in place of an engine that may not converge.
///
/// # Errors
/// [`NoConvergence`](crate::Error::NoConvergence) or [`Interrupted`](crate::Error::Interrupted).
pub fn exact(model: &AnyModel, locations: &Locations) -> Result<AnyModel> {
    Spectrum::dense(model.kernel(), locations).map(|spectrum| AnyModel::Spectral(spectrum.into()))
}
