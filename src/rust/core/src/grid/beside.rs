//! A kernel whose likelihood is another engine's, and whose quadratic forms are the grid's: over many locations p-values are
//! the same whatever a gene's variances come from.

use super::GridModel;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::locations::Locations;
use crate::model::{Block, Likelihood, Model, View};
use crate::null::KernelForms;
use crate::prepare::AnyModel;
use serde::{Deserialize, Serialize};

/// A kernel of two engines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beside {
    likelihood: AnyModel,
    forms: GridModel,
}

impl Beside {
    /// From models of the same kernel.
    pub fn new(likelihood: AnyModel, forms: GridModel) -> Self {
        Self { likelihood, forms }
    }

    /// The model that has the likelihood.
    pub fn likelihood(&self) -> &AnyModel {
        &self.likelihood
    }

    /// The model that has the forms.
    pub fn forms_mut(&mut self) -> &mut GridModel {
        &mut self.forms
    }
}

impl Model for Beside {
    fn kernel(&self) -> Kernel {
        self.likelihood.kernel()
    }

    fn engine(&self) -> &'static str {
        self.likelihood.engine()
    }

    fn rank(&self) -> usize {
        self.likelihood.rank()
    }

    fn gower(&self) -> f64 {
        self.likelihood.gower()
    }

    fn error_bound(&self) -> f64 {
        self.likelihood.error_bound()
    }

    fn doubt(&self, log_delta: f64) -> f64 {
        self.likelihood.doubt(log_delta)
    }

    fn always_converges(&self) -> bool {
        self.likelihood.always_converges()
    }

    fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms {
        self.forms.forms(locations, deltas)
    }

    fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>> {
        // Without p-values nobody asks for forms.
        let forms = if block.deltas.is_empty() { None } else { Some(self.forms.view(block)?) };
        Ok(Box::new(BesideView { likelihood: self.likelihood.view(block)?, forms }))
    }
}

struct BesideView<'a> {
    likelihood: Box<dyn View + 'a>,
    forms: Option<Box<dyn View + 'a>>,
}

impl View for BesideView<'_> {
    fn forms(&self, gene: usize, out: &mut [f64]) {
        if let Some(forms) = &self.forms {
            forms.forms(gene, out);
        }
    }

    fn likelihood(&self) -> Option<&dyn Likelihood> {
        self.likelihood.likelihood()
    }
}
