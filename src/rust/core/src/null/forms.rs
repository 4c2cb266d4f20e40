//! The quadratic forms of one kernel, as far as they do not depend on a gene.

use super::moments::{Cumulants, Invariants};
use super::ratio_tail::RatioTail;
use faer::Mat;
use serde::{Deserialize, Serialize};

/// A form counts as constant over permutations where what varies is below this share of its squared norm: rounding.
const CONSTANT: f64 = 1e-13;

/// A form's lower tail counts where a location's covariances with all others have a sum of squares of at most so many
/// squared variances: as for SE kernels up to a spacing.
const NARROW: f64 = 1.5;

/// One sample's share of one form y'Ay.
#[derive(Debug, Clone)]
pub struct SampleForm {
    /// tr A / (n - 1): the mean of y'Ay over permutations is shift · y'y.
    pub shift: f64,
    /// Invariants of the traceless part, A - shift·H.
    pub invariants: Invariants,
    /// The eigenvalues of the traceless part with multiplicities, n - 1 with them.
    pub eigenvalues: Vec<(f64, f64)>,
}

/// The forms of one kernel, one for each noise ratio, and rows of its score form, by which kernels are compared.
#[derive(Debug, Clone)]
pub struct KernelForms {
    pub(super) forms: Vec<Form>,
    pub(super) rows: Vec<Mat<f64>>,
}

impl SampleForm {
    /// Quadrature has the sum of the eigenvalues only nearly right: takes their mean off.
    pub(crate) fn centre(forms: &mut [Self]) {
        let all = || forms.iter().flat_map(|form| &form.eigenvalues);
        let total: f64 = all().map(|(_, m)| m).sum();
        let mean = all().map(|(v, m)| v * m).sum::<f64>() / total;
        let all = forms.iter_mut().flat_map(|form| &mut form.eigenvalues);
        all.for_each(|(value, _)| *value -= mean);
    }
}

impl KernelForms {
    /// From the samples' shares of each form, in the order of the noise ratios, and rows of the score form of each
    /// sample with zero trace, rows × n ([`super::score_rows`] says which). A form that an engine does not have is `None`: it counts as constant,
    /// and does not enter the p-value.
    pub fn new(forms: Vec<Option<Vec<SampleForm>>>, rows: Vec<Mat<f64>>) -> Self {
        let forms = forms.into_iter().map(|samples| samples.map_or_else(Form::constant, Form::new)).collect();
        Self { forms, rows }
    }
}

/// One form.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Form {
    /// Mean per unit of y'y, and cumulants, for each sample.
    pub shifts: Vec<f64>,
    pub cumulants: Vec<Cumulants>,
    /// The tail of the ratio to the sum of squares.
    pub ratio: Option<RatioTail>,
    /// The same of the lower tail, that is, of -A; for narrow kernels only.
    pub lower: Option<RatioTail>,
    /// Whether the form is constant over permutations, up to rounding.
    pub constant: bool,
    pub support: Support,
}

impl Form {
    fn constant() -> Self {
        Self { constant: true, ..Self::default() }
    }

    fn new(samples: Vec<SampleForm>) -> Self {
        let mut form = Self::default();
        let (mut varying, mut constant, mut eigenvalues) = (0.0, 0.0, Vec::new());
        for SampleForm { shift, invariants, eigenvalues: own } in samples {
            form.shifts.push(shift);
            form.cumulants.push(Cumulants::new(&invariants));
            form.support.add(&invariants);
            varying += invariants.t2;
            constant += invariants.n * shift * shift;
            eigenvalues.extend(own);
        }
        form.constant = varying <= CONSTANT * (varying + constant);
        if !form.constant {
            form.ratio = RatioTail::new(&eigenvalues);
            if form.support.squares <= NARROW * constant {
                form.lower = RatioTail::new(&negative(&eigenvalues));
            }
        }
        form
    }

    /// Σ over samples of tr A², of the traceless part.
    pub fn total(&self) -> f64 {
        self.support.total
    }

    /// The standardised form that a draw of the kernel itself is expected to have.
    pub fn strength(&self) -> f64 {
        let shift = self.shifts.iter().sum::<f64>() / self.shifts.len() as f64;
        (0.5 * self.support.total).sqrt() / shift
    }
}

/// How many pairs of locations, and how many locations, carry a form.
///
/// If few do, a sparse gene's form is a lottery: nearly always the same, now and then large. Three moments say
/// nothing of its tail.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Support {
    /// Σ aᵢⱼ² and Σ aᵢⱼ³ over i ≠ j.
    squares: f64,
    cubes: f64,
    /// tr A² and Σ (A²)ᵢᵢ².
    total: f64,
    row_squares: f64,
}

impl Support {
    fn add(&mut self, a: &Invariants) {
        self.squares += a.t2 - a.s2;
        self.cubes += a.u - a.s3;
        self.total += a.t2;
        self.row_squares += a.squares;
    }

    /// The number of pairs of locations, (i, j) and (j, i) counted apart: of k equal entries it is k. Where positive
    /// and negative entries balance it is large.
    pub fn pairs(&self) -> f64 {
        self.squares.powi(3) / (self.cubes * self.cubes)
    }

    /// The number of locations.
    fn locations(&self) -> f64 {
        self.total * self.total / self.row_squares
    }

    /// Whether a gene with this kurtosis, that of spikes in a share 1/kurtosis of all locations, can be expected to
    /// meet at least one of these pairs, and one of these locations.
    pub fn carries(&self, kurtosis: f64) -> bool {
        self.pairs() >= kurtosis * kurtosis && self.locations() >= kurtosis
    }
}

/// The eigenvalues of -A. Those of a full spectrum are one too many, which a negative multiplicity takes back: the least,
/// which here would be the largest.
fn negative(eigenvalues: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut surplus: f64 = eigenvalues.iter().map(|(_, m)| (-m).max(0.0)).sum();
    let mut own: Vec<(f64, f64)> =
        eigenvalues.iter().filter(|(_, m)| *m > 0.0).map(|(value, m)| (-value, *m)).collect();
    own.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, multiplicity) in &mut own {
        let taken = surplus.min(*multiplicity);
        *multiplicity -= taken;
        surplus -= taken;
    }
    own.retain(|(_, m)| *m > 0.0);
    own
}
