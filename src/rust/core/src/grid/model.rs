//! One kernel of a [`Grid`], as the test of genes knows it.

use super::Grid;
use super::strips::LANES;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::locations::Locations;
use crate::model::{Block, Likelihood, Model, View};
use crate::null::{KernelForms, SampleForm, score_rows};
use faer::Mat;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A kernel of a grid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GridModel {
    kernel: Kernel,
    n: usize,
    /// The kernel's place among the grid's.
    index: usize,
    lengthscales: Vec<f64>,
    /// Absent only between a file and [`GridModel::link`].
    #[serde(skip)]
    grid: Option<Arc<Grid>>,
}

impl GridModel {
    /// The kernel in this place of a grid.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn new(grid: &Arc<Grid>, index: usize) -> Result<Self> {
        let n = grid.locations().len();
        let lengthscale = grid.lengthscales()[index];
        Ok(Self {
            kernel: Kernel::squared_exponential(lengthscale)?,
            n,
            index,
            lengthscales: grid.lengthscales().to_vec(),
            grid: Some(grid.clone()),
        })
    }

    /// The kernel's place among the grid's.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The grid.
    pub fn grid(&self) -> Option<&Arc<Grid>> {
        self.grid.as_ref()
    }

    /// Plans the grid again, for the first of its models that comes from a file, and shares it with the others.
    ///
    /// # Errors
    /// Those of [`Grid::new`].
    pub fn link(&mut self, locations: &Locations, known: &mut Option<Arc<Grid>>) -> Result<()> {
        let grid = match known {
            Some(grid) => grid.clone(),
            None => Arc::new(Grid::new(&self.lengthscales, locations)?),
        };
        *known = Some(grid.clone());
        self.grid = Some(grid);
        Ok(())
    }
}

impl Model for GridModel {
    fn kernel(&self) -> Kernel {
        self.kernel
    }

    fn engine(&self) -> &'static str {
        "grid"
    }

    fn rank(&self) -> usize {
        self.n
    }

    fn gower(&self) -> f64 {
        self.grid.as_ref().and_then(|grid| grid.gower(self.index).ok()).unwrap_or(f64::NAN)
    }

    fn error_bound(&self) -> f64 {
        f64::NAN
    }

    fn doubt(&self, _: f64) -> f64 {
        f64::INFINITY
    }

    /// The score form, and one at the finite noise ratio of [`super::finite`].
    fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms {
        let grid = self.grid.as_ref();
        let made = grid.and_then(|grid| grid.score(self.index).ok());
        let (Some(grid), Some(made)) = (grid, made) else {
            // After an interrupt nobody looks at it.
            return KernelForms::new(deltas.iter().map(|_| None).collect(), Vec::new());
        };
        let kernel = self.kernel.at(locations);
        let (mut score, mut rows) = (Vec::new(), Vec::new());
        for (own, range) in made.into_iter().zip(locations.samples()) {
            let places: Vec<usize> = range.clone().collect();
            rows.push(own.rows(&kernel, range.start, &places, &score_rows(locations, range.clone())));
            score.push(own.form);
        }
        SampleForm::centre(&mut score);
        let finite = || {
            let made = grid.finite(self.index).ok().filter(|_| grid.has_finite(self.index))?;
            let mut forms: Vec<SampleForm> = made.into_iter().map(|own| own.form).collect();
            SampleForm::centre(&mut forms);
            Some(forms)
        };
        let form = |delta: &f64| match *delta {
            delta if delta.is_infinite() => Some(score.clone()),
            delta if delta == super::finite::DELTA => finite(),
            _ => None,
        };
        KernelForms::new(deltas.iter().map(form).collect(), rows)
    }

    fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>> {
        interrupt::check()?;
        let grid = self.grid.as_ref().ok_or(Error::Damaged("a grid that was not made ready"))?;
        let forms = block.shared(grid, || block_forms(grid, block));
        interrupt::check()?;
        Ok(Box::new(GridView { grid, index: self.index, block, forms }))
    }
}

/// 2 kernels × genes, see [`Grid::forms`]. After an interrupt nobody looks at it.
fn block_forms(grid: &Grid, block: &Block<'_>) -> Mat<f64> {
    let y = block.values();
    let mut forms = Mat::zeros(2 * grid.lengthscales().len(), y.ncols());
    for from in (0..block.testable.len()).step_by(LANES) {
        let count = LANES.min(block.testable.len() - from);
        if let Ok(own) = grid.forms(y.subcols(from, count)) {
            forms.as_mut().subcols_mut(from, count).copy_from(own);
        }
    }
    forms
}

struct GridView<'a> {
    grid: &'a Grid,
    index: usize,
    block: &'a Block<'a>,
    forms: Arc<Mat<f64>>,
}

impl View for GridView<'_> {
    fn forms(&self, gene: usize, out: &mut [f64]) {
        for (out, delta) in out.iter_mut().zip(self.block.deltas) {
            *out = self.grid.form_at(|k| self.forms[(k, gene)], self.index, *delta);
        }
    }

    fn likelihood(&self) -> Option<&dyn Likelihood> {
        None
    }
}
