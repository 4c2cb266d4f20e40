//! The engine of kernels that are held as their eigenpairs.

mod profile;

pub use profile::{GeneProfile, Profile};

use crate::error::Result;
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, Maximum, candidates, range_above};
use crate::locations::Locations;
use crate::model::{Block, Likelihood, Model, View};
use crate::null::invariants::{SampleSpectrum, form_weights};
use crate::null::{KernelForms, SampleForm, score_rows};
use crate::simd::dot;
use crate::spectrum::Spectrum;
use faer::Mat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;

/// A spectrum, and what the likelihoods need of it. Clones share both.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Spectrum")]
pub struct Spectral {
    spectrum: Arc<Spectrum>,
    profile: Arc<Profile>,
}

impl From<Spectrum> for Spectral {
    fn from(spectrum: Spectrum) -> Self {
        let profile = Arc::new(Profile::new(&spectrum));
        Self { spectrum: Arc::new(spectrum), profile }
    }
}

/// As the spectrum alone: the rest is computed from it in no time.
impl Serialize for Spectral {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.spectrum.serialize(serializer)
    }
}

impl Spectral {
    /// The spectrum.
    pub fn spectrum(&self) -> &Spectrum {
        &self.spectrum
    }

    /// The spectrum alone.
    pub fn into_spectrum(self) -> Spectrum {
        Arc::unwrap_or_clone(self.spectrum)
    }
}

impl Model for Spectral {
    fn kernel(&self) -> Kernel {
        self.spectrum.kernel()
    }

    fn engine(&self) -> &'static str {
        self.spectrum.method().name()
    }

    fn rank(&self) -> usize {
        self.spectrum.rank()
    }

    fn gower(&self) -> f64 {
        self.profile.gower()
    }

    /// Half of what is missing of K's trace.
    fn error_bound(&self) -> f64 {
        0.5 * self.spectrum.dropped_trace()
    }

    fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms {
        let kernel = self.kernel().at(locations);
        let mut forms = vec![Vec::new(); deltas.len()];
        let mut rows = Vec::new();
        let mut start = 0;
        for (block, range) in self.spectrum.blocks().iter().zip(locations.samples()) {
            let values = &self.spectrum.values()[start..start + block.rank()];
            let vectors = block.vectors();
            let sample =
                SampleSpectrum::new(values, vectors.as_ref().as_ref()).with_kernel(&kernel, range.clone());
            start += block.rank();
            let own: Vec<SampleForm> =
                deltas.par_iter().with_max_len(1).map(|&delta| sample.sample_form(delta)).collect();
            forms.iter_mut().zip(own).for_each(|(form, own)| form.push(own));
            rows.push(sample.score_rows(&score_rows(locations, range.clone())));
        }
        KernelForms::new(forms.into_iter().map(Some).collect(), rows)
    }

    fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>> {
        let width = block.y.ncols();
        let mut z = Mat::zeros(self.rank(), width);
        self.spectrum.project(block.values(), z.as_mut());
        let mut scratch = Mat::zeros(z.nrows(), width);
        let mut scanned = Mat::zeros(self.profile.grid().len(), width);
        self.profile.scan(z.as_ref(), block.squares.as_ref(), scratch.as_mut(), scanned.as_mut());
        let forms = block.deltas.iter().map(|&delta| FormWeights::new(&self.profile, delta)).collect();
        Ok(Box::new(SpectralView { model: self, block, z, scanned, forms }))
    }
}

/// A block of genes in a spectrum's eigenbasis.
struct SpectralView<'a> {
    model: &'a Spectral,
    block: &'a Block<'a>,
    /// Projections, r × genes.
    z: Mat<f64>,
    /// Likelihoods on the grid, see [`Profile::scan`].
    scanned: Mat<f64>,
    forms: Vec<FormWeights>,
}

impl SpectralView<'_> {
    fn profile(&self, gene: usize) -> GeneProfile<'_> {
        self.model.profile.gene(self.z.col_as_slice(gene), |p| self.block.squares[(gene, p)])
    }
}

impl View for SpectralView<'_> {
    fn forms(&self, gene: usize, out: &mut [f64]) {
        for (form, out) in self.forms.iter().zip(out) {
            *out = form.value(&self.model.profile, self.z.col_as_slice(gene));
        }
    }

    fn likelihood(&self) -> Option<&dyn Likelihood> {
        Some(self)
    }
}

impl Likelihood for SpectralView<'_> {
    fn scan(&self, gene: usize, found: &mut dyn FnMut(Candidate)) {
        candidates(self.scanned.col_as_slice(gene), self.block.y.nrows(), found);
    }

    fn refine(&self, gene: usize, candidate: Candidate) -> Maximum {
        self.profile(gene).refine(candidate)
    }

    fn range_above(&self, gene: usize, least: f64) -> Option<(f64, f64)> {
        range_above(self.scanned.col_as_slice(gene), self.model.profile.grid(), self.block.y.nrows(), least)
    }

    fn mean_and_scale(&self, gene: usize, log_delta: f64) -> (Vec<f64>, f64) {
        self.profile(gene).mean_and_scale(log_delta)
    }
}

/// A quadratic form in the eigenbasis: weights of z² and, of each sample's square that the mean's estimate adds, of z
/// (none for the score form).
struct FormWeights {
    squares: Vec<f64>,
    cross: Vec<f64>,
}

impl FormWeights {
    fn new(profile: &Profile, delta: f64) -> Self {
        let (mut squares, mut cross) = (Vec::new(), Vec::new());
        for (range, n) in profile.samples() {
            let (values, ones) = (&profile.values()[range.clone()], &profile.ones()[range]);
            let (own_squares, own_cross) = form_weights(values, ones, n, delta);
            squares.extend(own_squares);
            cross.extend(own_cross);
        }
        Self { squares, cross }
    }

    /// The form of one gene, from its projection.
    #[inline]
    fn value(&self, profile: &Profile, z: &[f64]) -> f64 {
        let mut value = weighted_squares(&self.squares, z);
        if !self.cross.is_empty() {
            for (range, _) in profile.samples() {
                let mean = dot(&self.cross[range.clone()], &z[range]);
                value += mean * mean;
            }
        }
        value
    }
}

/// Lanes of the sums below, which fix their order whatever the hardware.
const LANES: usize = 8;

/// Σ w z².
#[inline]
fn weighted_squares(w: &[f64], z: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (w_chunks, z_chunks) = (w.chunks_exact(LANES), z.chunks_exact(LANES));
    let rest = w_chunks.remainder().iter().zip(z_chunks.remainder());
    let rest: f64 = rest.map(|(w, z)| w * z * z).sum();
    for (w, z) in w_chunks.zip(z_chunks) {
        for lane in 0..LANES {
            lanes[lane] += w[lane] * z[lane] * z[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}
