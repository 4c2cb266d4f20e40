//! What depth does to counts: residuals that follow it as far as the data cannot tell that a gene does not.
//!
//! The log of a gene's expected count is `a + (1 + b) d + f(x)`: d the log of the spot's size factor, centred, b the
//! gene's departure from being proportional to it, f a smooth signal. With Pearson residuals r of the offset model
//! (b = 0, f = 0), a departure has the direction `e = d mu / sd`. A projection P on what is smooth (see [`Patches`])
//! splits both: signal is in P r, and b is in P r and in the rest. So the rest, which signal cannot enter, says how large
//! b is; over genes b is normal with mean 0 and standard deviation tau ([`Spread`]); and what the rest leaves open of a
//! gene's b has its share of the variance of P r along P e. With m and v the mean and variance of b given the rest,
//!
//! `r - m e - (1 - c) (<P e, r> / |P e|² - m) P e`,   `c = (1 + v |P e|² / s2)^-1/2`
//!
//! has the variance s2 along P e as elsewhere, whatever b was. tau = 0 is the offset model; tau = infinity, when nothing
//! is rough, a regression on e.
//!
//! A spot's size factor is not its depth but an estimate. Its error enters the rest of d as noise, and the count of the
//! gene itself enters the size factor: both are known, and taken out of the estimate of b.

use crate::error::{Error, Result, check_size};
use crate::patches::Patches;
use crate::simd::vectorized;
use faer::{ColRef, Mat, MatMut, MatRef};
use rayon::prelude::*;
use std::ops::Range;

/// The largest tau: a gene whose exponent is farther than that from 1 does not follow depth.
pub const LARGEST_SPREAD: f64 = 0.5;

/// A part of the depth is known if no more than 4 / 5 of its variance are the error of the size factors.
const LEAST_SIGNAL: f64 = 0.2;

/// Fewer degrees of freedom than this are not enough for a variance.
const LEAST_FREEDOM: f64 = 5.0;

/// Fewer genes than this do not tell tau.
const LEAST_GENES: usize = 20;

/// tau where too few genes tell it.
const USUAL_SPREAD: f64 = 0.2;

/// Departures count up to so many of their standard deviations.
const WINSOR: f64 = 3.0;

/// Depth, and how counts vary around what it makes expected.
#[derive(Debug, Clone)]
pub struct Depth {
    patches: Patches,
    /// All by place from here on. Size factors.
    size: Vec<f64>,
    /// Depth; and the size factor that variances are taken at.
    depth: Vec<f64>,
    bounded: Vec<f64>,
    /// Places that follow each other and are of one sample, with the sample.
    runs: Vec<(usize, Range<usize>)>,
    /// The place of each row.
    places: Vec<usize>,
    /// Variance of the logarithm of the size factor, split into smooth and rough.
    smooth_error: Vec<f64>,
    rough_error: Vec<f64>,
    /// What one count of a gene of weight 1 adds to the logarithm of the size factor, split likewise.
    smooth_own: Vec<f64>,
    rough_own: Vec<f64>,
    /// Orthonormal columns that are regressed out, orthogonal to the samples' means.
    covariates: Vec<Vec<f64>>,
    n_samples: usize,
    phi: f64,
    limit: f64,
    freedom: f64,
}

/// What [`Depth`] is made of; slices have an element for each spot, in the order of the rows of the counts.
#[derive(Debug, Clone, Copy)]
pub struct Spots<'a> {
    /// Size factors, above 0.
    pub size: &'a [f64],
    /// What genes follow with an exponent of their own: mostly the logarithm of the size factors.
    pub depth: &'a [f64],
    /// The sample of each spot, from 0.
    pub sample: &'a [usize],
    /// For each sample the size factor at which the variance of spots with less is taken: it bounds their residuals.
    pub floor: &'a [f64],
    /// Variance of the logarithm of each size factor; 0 if it is known.
    pub error: &'a [f64],
    /// What one count of a gene of weight 1 adds to the logarithm of the size factor; 0 if it is not made of counts.
    pub own: &'a [f64],
    /// Orthonormal columns, orthogonal to the samples' means, that are regressed out.
    pub covariates: MatRef<'a, f64>,
    /// Overdispersion: counts have the variance mu + phi mu².
    pub phi: f64,
}

/// A gene's departure b as one part of the depth tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Departure {
    /// |e|² in this part.
    pub energy: f64,
    /// The same without what the error of the size factors adds to it.
    pub signal: f64,
    /// <e, r> in this part, without what the error and the gene's own counts add to it.
    pub product: f64,
    /// Variance of the residuals.
    pub variance: f64,
}

impl Departure {
    /// The estimate of b.
    pub fn value(&self) -> f64 {
        self.product / self.signal
    }

    /// Its variance.
    pub fn square_error(&self) -> f64 {
        self.variance * self.energy / (self.signal * self.signal)
    }

    fn is_known(&self) -> bool {
        self.signal > LEAST_SIGNAL * self.energy && self.square_error().is_finite()
    }
}

/// How far genes depart from being proportional to depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Standard deviation of b over genes that is taken for granted: the lesser of the two below.
    pub tau: f64,
    /// As the rough part of depth tells it, and one standard error more; infinite if it does not.
    pub rough: f64,
    /// As the smooth part tells it, from the middle of the genes; infinite if it does not.
    pub smooth: f64,
    /// Whether the rough part of depth is more than the error of the size factors.
    pub rough_is_known: bool,
}

impl Spread {
    /// From some genes' departures in the rough and in the smooth part of the depth.
    ///
    /// Both parts bound tau: what the rough part gives has the standard error of few spots, what the smooth part gives
    /// takes signal that goes along with depth for a departure. The first is the weighted mean of b² - se² over genes,
    /// weights 1 / (se² + tau²)², winsorised at 3 standard deviations, and its standard error more. The second makes
    /// the median of b² / (se² + tau²) that of chi-squared, so that less than half of the genes being spatial does not move it far.
    pub fn of(rough: &[Departure], smooth: &[Departure]) -> Self {
        let is_known = |all: &[Departure]| {
            let sum = |of: fn(&Departure) -> f64| all.iter().map(of).sum::<f64>();
            let genes = all.iter().filter(|d| d.is_known()).count();
            (sum(|d| d.signal) > LEAST_SIGNAL * sum(|d| d.energy), genes)
        };
        let pairs = |all: &[Departure]| -> Vec<(f64, f64)> {
            all.iter().filter(|d| d.is_known()).map(|d| (d.value().powi(2), d.square_error())).collect()
        };
        let (rough_is_known, rough_genes) = is_known(rough);
        let (smooth_is_known, smooth_genes) = is_known(smooth);
        let of_rough = if rough_is_known && rough_genes >= LEAST_GENES {
            mean_excess(&pairs(rough)).sqrt()
        } else {
            f64::INFINITY
        };
        let of_smooth = if smooth_is_known && smooth_genes >= LEAST_GENES {
            median_excess(&pairs(smooth)).sqrt()
        } else {
            f64::INFINITY
        };
        let tau = if !rough_is_known && !smooth_is_known {
            // a depth that is nothing but its error: nothing departs from it
            0.0
        } else if of_rough.is_infinite() && of_smooth.is_infinite() {
            USUAL_SPREAD
        } else {
            of_rough.min(of_smooth).min(LARGEST_SPREAD)
        };
        Self { tau, rough: of_rough, smooth: of_smooth, rough_is_known }
    }
}

/// tau² and its standard error, added up: (b², se²) of genes.
fn mean_excess(genes: &[(f64, f64)]) -> f64 {
    let mut tau2 = 0.0;
    let mut precision = 0.0;
    for _ in 0..100 {
        precision = 0.0;
        let mut sum = 0.0;
        for (b2, se2) in genes {
            let variance = se2 + tau2;
            let weight = 1.0 / (variance * variance);
            precision += weight;
            sum += weight * (b2.min(WINSOR * WINSOR * variance) - se2);
        }
        let next = (sum / precision).max(0.0);
        let done = (next - tau2).abs() <= 1e-9 * (1e-6 + next);
        tau2 = next;
        if done {
            break;
        }
    }
    tau2 + (2.0 / precision).sqrt()
}

/// tau² at which the median of b² / (se² + tau²) is the median of chi-squared with one degree of freedom.
fn median_excess(genes: &[(f64, f64)]) -> f64 {
    const MEDIAN: f64 = 0.454_936_423_119_572_8;
    let mut ratios = vec![0.0; genes.len()];
    let mut above = |tau2: f64| {
        for (ratio, (b2, se2)) in ratios.iter_mut().zip(genes) {
            *ratio = b2 / (se2 + tau2);
        }
        let middle = ratios.len() / 2;
        *ratios.select_nth_unstable_by(middle, f64::total_cmp).1 > MEDIAN
    };
    if !above(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    if above(high) {
        return high;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if above(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Counts of genes: spots × genes.
#[derive(Debug, Clone, Copy)]
pub enum Counts<'a> {
    /// All of them.
    Dense(MatRef<'a, f64>),
    /// Those that are not zero, gene by gene: where each gene's start, and at the end their number; spots, from 0; values.
    Sparse {
        /// Number of spots.
        spots: usize,
        /// One more than there are genes.
        starts: &'a [i32],
        /// Of each value.
        rows: &'a [i32],
        /// Counts.
        values: &'a [f64],
    },
}

impl Counts<'_> {
    /// Spots and genes.
    ///
    /// # Errors
    /// A sparse matrix whose parts do not fit each other.
    fn shape(&self) -> Result<(usize, usize)> {
        match *self {
            Counts::Dense(counts) => Ok(counts.shape()),
            Counts::Sparse { spots, starts, rows, values } => {
                let inside = |row: &i32| usize::try_from(*row).is_ok_and(|row| row < spots);
                let fit = starts.first() == Some(&0)
                    && starts.last().and_then(|end| usize::try_from(*end).ok()) == Some(values.len())
                    && starts.windows(2).all(|w| w[0] <= w[1])
                    && rows.len() == values.len()
                    && rows.iter().all(inside);
                if fit { Ok((spots, starts.len() - 1)) } else { Err(Error::Damaged("sparse counts")) }
            }
        }
    }

    /// Does something with a gene's counts, spot by spot; those that are zero may be left out.
    fn each(&self, g: usize, mut use_count: impl FnMut(usize, f64)) {
        match *self {
            Counts::Dense(counts) => {
                counts.col(g).iter().enumerate().for_each(|(row, &count)| use_count(row, count));
            }
            Counts::Sparse { starts, rows, values, .. } => {
                let own = starts[g] as usize..starts[g + 1] as usize;
                let entries = rows[own.clone()].iter().zip(&values[own]);
                entries.for_each(|(&row, &count)| use_count(row as usize, count));
            }
        }
    }
}

/// Sums of counts over groups of spots: groups × genes. `group` has a number below `groups` for each spot.
///
/// # Errors
/// Parts of different sizes.
pub fn group_sums(counts: Counts<'_>, group: &[usize], groups: usize) -> Result<Mat<f64>> {
    let (spots, genes) = counts.shape()?;
    check_size("groups of spots", spots, group.len())?;
    if group.iter().any(|&group| group >= groups) {
        return Err(Error::Damaged("groups of spots"));
    }
    let mut sums = Mat::zeros(groups, genes);
    sums.as_mut().par_col_iter_mut().enumerate().for_each(|(g, mut sums)| {
        counts.each(g, |row, count| sums[group[row]] += count);
    });
    Ok(sums)
}

/// One gene's vectors, by place; room that the next gene uses again.
#[derive(Default)]
struct Gene {
    counts: Vec<f64>,
    residuals: Vec<f64>,
    /// mu / sd.
    slopes: Vec<f64>,
    direction: Vec<f64>,
    smooth_residuals: Vec<f64>,
    smooth_direction: Vec<f64>,
}

/// A gene's departure in the rough and in the smooth part of the depth.
struct Parts {
    rough: Departure,
    smooth: Departure,
}

impl Depth {
    /// Spots in patches.
    ///
    /// # Errors
    /// Parts of different sizes; size factors that are not positive.
    pub fn new(patches: Patches, spots: Spots<'_>) -> Result<Self> {
        let n = patches.n();
        check_size("size factors", n, spots.size.len())?;
        check_size("depths", n, spots.depth.len())?;
        check_size("samples", n, spots.sample.len())?;
        check_size("errors of size factors", n, spots.error.len())?;
        check_size("shares of a count", n, spots.own.len())?;
        check_size("rows of the covariates", n, spots.covariates.nrows())?;
        let n_samples = spots.sample.iter().max().map_or(0, |s| s + 1);
        check_size("floors", n_samples, spots.floor.len())?;
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if let Some(&value) = spots.size.iter().find(|s| !positive(**s)) {
            return Err(Error::Parameter { name: "size factor", value, must_be: "above 0" });
        }
        if !(spots.phi >= 0.0 && spots.phi.is_finite()) {
            return Err(Error::Parameter { name: "phi", value: spots.phi, must_be: "0 or more" });
        }
        let by_place =
            |of: &dyn Fn(usize) -> f64| -> Vec<f64> { patches.rows().iter().map(|&i| of(i)).collect() };
        let mut places = vec![0; n];
        patches.rows().iter().enumerate().for_each(|(place, &row)| places[row] = place);
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for (place, &row) in patches.rows().iter().enumerate() {
            match runs.last_mut() {
                Some((sample, range)) if *sample == spots.sample[row] => range.end = place + 1,
                _ => runs.push((spots.sample[row], place..place + 1)),
            }
        }
        let leverage = patches.leverage();
        let part = |values: &[f64], smooth: bool| -> Vec<f64> {
            let share = |h: f64| if smooth { h } else { 1.0 - h };
            patches.rows().iter().zip(&leverage).map(|(&i, &h)| share(h) * values[i]).collect()
        };
        let bounded = by_place(&|i| spots.size[i].max(spots.floor[spots.sample[i]]));
        let smooth = leverage.iter().sum::<f64>();
        Ok(Self {
            size: by_place(&|i| spots.size[i]),
            depth: by_place(&|i| spots.depth[i]),
            bounded,
            runs,
            places,
            smooth_error: part(spots.error, true),
            rough_error: part(spots.error, false),
            smooth_own: part(spots.own, true),
            rough_own: part(spots.own, false),
            covariates: (0..spots.covariates.ncols())
                .map(|j| by_place(&|i| spots.covariates[(i, j)]))
                .collect(),
            n_samples,
            phi: spots.phi,
            limit: (n as f64).sqrt(),
            freedom: n as f64 - smooth - spots.covariates.ncols() as f64 - 1.0,
            patches,
        })
    }

    /// Number of spots.
    pub fn n(&self) -> usize {
        self.size.len()
    }

    /// Departures of genes, in the rough and in the smooth part of the depth.
    ///
    /// `rates` are samples × genes, a gene's expected count at size factor 1; `weights` of the genes in the size factors.
    ///
    /// # Errors
    /// Parts of different sizes.
    pub fn departures(
        &self,
        counts: Counts<'_>,
        rates: MatRef<'_, f64>,
        weights: &[f64],
    ) -> Result<(Vec<Departure>, Vec<Departure>)> {
        let genes = self.check(counts, rates, weights)?;
        Ok((0..genes)
            .into_par_iter()
            .map_init(Gene::default, |gene, g| {
                self.read(counts, g, gene);
                let parts = self.gene(gene, rates.col(g), weights[g]);
                (parts.rough, parts.smooth)
            })
            .unzip())
    }

    /// Residuals of genes, spots × genes; arguments as in [`Depth::departures`].
    ///
    /// # Errors
    /// Parts of different sizes; a negative tau.
    pub fn residuals(
        &self,
        counts: Counts<'_>,
        rates: MatRef<'_, f64>,
        weights: &[f64],
        spread: &Spread,
    ) -> Result<Mat<f64>> {
        let genes = self.check(counts, rates, weights)?;
        if spread.tau.is_nan() || spread.tau < 0.0 {
            return Err(Error::Parameter { name: "tau", value: spread.tau, must_be: "0 or more" });
        }
        let mut out = Mat::zeros(self.places.len(), genes);
        out.as_mut().par_col_iter_mut().enumerate().for_each_init(Gene::default, |gene, (g, column)| {
            self.read(counts, g, gene);
            if spread.tau == 0.0 && self.covariates.is_empty() {
                self.pearson(gene, rates.col(g));
            } else {
                let parts = self.gene(gene, rates.col(g), weights[g]);
                self.shrink(gene, &parts, spread);
            }
            self.scatter(&gene.residuals, column.as_mat_mut());
        });
        Ok(out)
    }

    /// The number of genes.
    fn check(&self, counts: Counts<'_>, rates: MatRef<'_, f64>, weights: &[f64]) -> Result<usize> {
        let (spots, genes) = counts.shape()?;
        check_size("spots of the counts", self.size.len(), spots)?;
        check_size("samples of the rates", self.n_samples, rates.nrows())?;
        check_size("genes of the rates", genes, rates.ncols())?;
        check_size("genes of the weights", genes, weights.len())?;
        Ok(genes)
    }

    /// The counts of a gene, by place.
    fn read(&self, counts: Counts<'_>, g: usize, gene: &mut Gene) {
        gene.counts.clear();
        gene.counts.resize(self.places.len(), 0.0);
        counts.each(g, |row, count| gene.counts[self.places[row]] = count);
    }

    /// Residuals of the offset model and mu / sd. `rates` of the gene, by sample.
    fn pearson(&self, gene: &mut Gene, rates: ColRef<'_, f64>) {
        let (limit, phi) = (self.limit, self.phi);
        for values in [&mut gene.residuals, &mut gene.slopes] {
            values.clear();
            values.resize(self.size.len(), 0.0);
        }
        for (sample, range) in &self.runs {
            let rate = rates[*sample];
            let (size, bounded) = (&self.size[range.clone()], &self.bounded[range.clone()]);
            let counts = &gene.counts[range.clone()];
            let (residuals, slopes) = (&mut gene.residuals[range.clone()], &mut gene.slopes[range.clone()]);
            vectorized!(for ((size, bounded), (count, (residual, slope))) in
                size.iter().zip(bounded).zip(counts.iter().zip(residuals.iter_mut().zip(slopes.iter_mut())))
            {
                let mu = size * rate;
                let at = bounded * rate;
                let sd = (at * (1.0 + phi * at)).sqrt();
                let known = mu > 0.0;
                *residual = if known { ((count - mu) / sd).clamp(-limit, limit) } else { 0.0 };
                *slope = if known { mu / sd } else { 0.0 };
            });
        }
    }

    /// A gene's vectors, from its counts, and its departure.
    fn gene(&self, gene: &mut Gene, rates: ColRef<'_, f64>, weight: f64) -> Parts {
        let n = self.size.len();
        self.pearson(gene, rates);
        let Gene { residuals, slopes, direction, smooth_residuals, smooth_direction, .. } = gene;
        // the direction of a departure, beside a level of its own for each sample
        let mut sums = vec![[0.0; 2]; self.n_samples];
        for (sample, range) in &self.runs {
            let [mut weight, mut middle] = sums[*sample];
            for (w, depth) in slopes[range.clone()].iter().zip(&self.depth[range.clone()]) {
                weight += w * w;
                middle += w * w * depth;
            }
            sums[*sample] = [weight, middle];
        }
        direction.clear();
        for (sample, range) in &self.runs {
            let [weight, middle] = sums[*sample];
            let middle = if weight > 0.0 { middle / weight } else { 0.0 };
            let pairs = self.depth[range.clone()].iter().zip(&slopes[range.clone()]);
            direction.extend(pairs.map(|(depth, w)| (depth - middle) * w));
        }
        let means = self.centre(residuals);
        self.centre(direction);
        for covariate in &self.covariates {
            subtract(residuals, covariate);
            subtract(direction, covariate);
        }
        smooth_residuals.resize(n, 0.0);
        smooth_direction.resize(n, 0.0);
        self.patches.smooth(residuals, smooth_residuals);
        self.patches.smooth(direction, smooth_direction);

        let (mut rough, mut smooth) = ([0.0; 2], [0.0; 2]);
        let mut rest = 0.0;
        let smooth_parts = smooth_residuals.iter().zip(&*smooth_direction);
        for ((rp, ep), (residual, e)) in smooth_parts.zip(residuals.iter().zip(&*direction)) {
            let (rh, eh) = (residual - rp, e - ep);
            rough[0] += eh * eh;
            rough[1] += eh * rh;
            smooth[0] += ep * ep;
            smooth[1] += ep * rp;
            rest += rh * rh;
        }
        let explained = if rough[0] > 0.0 { rough[1] * rough[1] / rough[0] } else { 0.0 };
        let known = self.freedom >= LEAST_FREEDOM;
        let variance = if known {
            (rest - explained).max(0.0) / self.freedom
        } else {
            dot(residuals, residuals) / (n as f64 - 1.0)
        };
        let departure = |part: [f64; 2], error: &[f64], own: &[f64]| {
            let (mut noise, mut itself) = (0.0, 0.0);
            for (sample, range) in &self.runs {
                let rate = rates[*sample];
                let own = self.size[range.clone()].iter().zip(&own[range.clone()]);
                for ((w, error), (size, own)) in
                    slopes[range.clone()].iter().zip(&error[range.clone()]).zip(own)
                {
                    noise += w * w * error;
                    itself += size * rate * own;
                }
            }
            let [energy, product] = part;
            Departure { energy, signal: energy - noise, product: product + noise - weight * itself, variance }
        };
        let mut of_rough = departure(rough, &self.rough_error, &self.rough_own);
        if !known {
            of_rough.signal = 0.0;
        }
        let of_smooth = departure(smooth, &self.smooth_error, &self.smooth_own);
        // the test does not look at the means, but pictures do
        for (sample, range) in &self.runs {
            residuals[range.clone()].iter_mut().for_each(|residual| *residual += means[*sample]);
        }
        Parts { rough: of_rough, smooth: of_smooth }
    }

    /// Takes what depth explains out of a gene's residuals.
    fn shrink(&self, gene: &mut Gene, parts: &Parts, spread: &Spread) {
        let tau2 = spread.tau * spread.tau;
        // mean and variance of the departure given the rough part
        let (mean, variance) = if spread.rough_is_known && parts.rough.is_known() {
            let se2 = parts.rough.square_error();
            let kept = if tau2.is_finite() { tau2 / (tau2 + se2) } else { 1.0 };
            (kept * parts.rough.value(), kept * se2)
        } else {
            (0.0, tau2)
        };
        let energy = parts.smooth.energy;
        if mean != 0.0 {
            gene.residuals.iter_mut().zip(&gene.direction).for_each(|(r, e)| *r -= mean * e);
        }
        if variance > 0.0 && energy > 0.0 && parts.smooth.variance > 0.0 {
            let left = 1.0 / (1.0 + variance * energy / parts.smooth.variance).sqrt();
            let along = dot(&gene.smooth_direction, &gene.smooth_residuals) / energy;
            let excess = (1.0 - left) * (along - mean);
            gene.residuals.iter_mut().zip(&gene.smooth_direction).for_each(|(r, e)| *r -= excess * e);
        }
    }

    /// Takes the samples' means out, and gives them.
    fn centre(&self, values: &mut [f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_samples];
        let mut sizes = vec![0; self.n_samples];
        for (sample, range) in &self.runs {
            // one after the other, wherever runs begin
            sums[*sample] = values[range.clone()].iter().fold(sums[*sample], |sum, value| sum + value);
            sizes[*sample] += range.len();
        }
        let means: Vec<f64> =
            sums.iter().zip(&sizes).map(|(sum, &size)| sum / f64::max(size as f64, 1.0)).collect();
        for (sample, range) in &self.runs {
            values[range.clone()].iter_mut().for_each(|value| *value -= means[*sample]);
        }
        means
    }

    fn scatter(&self, by_place: &[f64], mut column: MatMut<'_, f64>) {
        for (value, &row) in by_place.iter().zip(self.patches.rows()) {
            column[(row, 0)] = *value;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Takes the part along a vector of length 1 out.
fn subtract(values: &mut [f64], unit: &[f64]) {
    let along = dot(values, unit);
    values.iter_mut().zip(unit).for_each(|(value, u)| *value -= along * u);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{normal, uniform};

    const N: usize = 120;

    struct Tissue {
        coords: Mat<f64>,
        size: Vec<f64>,
        depth: Vec<f64>,
        sample: Vec<usize>,
        floor: Vec<f64>,
        error: Vec<f64>,
        own: Vec<f64>,
        covariates: Mat<f64>,
        counts: Mat<f64>,
        rates: Mat<f64>,
    }

    /// Two samples whose depth is smooth and rough, and genes of several means that follow it more or less.
    fn tissue(genes: usize) -> Tissue {
        let mut uniform = uniform(7);
        let coords = Mat::from_fn(N, 2, |_, _| 10.0 * uniform());
        let size: Vec<f64> =
            (0..N).map(|i| (0.4 * coords[(i, 0)].sin() + 0.6 * (uniform() - 0.5)).exp()).collect();
        let sample: Vec<usize> = (0..N).map(|i| i % 2).collect();
        let rates = Mat::from_fn(2, genes, |s, g| (1.0 + s as f64) * 0.3 * (1 + g % 9) as f64);
        let counts = Mat::from_fn(N, genes, |i, g| {
            let exponent = 1.0 + 0.3 * ((g as f64 * 1.7).sin());
            (rates[(sample[i], g)] * size[i].powf(exponent) * (0.4 + 1.2 * uniform())).round()
        });
        let mut covariate: Vec<f64> = (0..N).map(|i| ((i / 2) as f64 * 0.7).cos()).collect();
        for s in 0..2 {
            let mean = covariate.iter().skip(s).step_by(2).sum::<f64>() / (N as f64 / 2.0);
            covariate.iter_mut().skip(s).step_by(2).for_each(|c| *c -= mean);
        }
        let norm = dot(&covariate, &covariate).sqrt();
        Tissue {
            depth: size.iter().map(|s| s.ln()).collect(),
            size,
            sample,
            floor: vec![0.0; 2],
            error: vec![0.001; N],
            own: vec![0.0005; N],
            covariates: Mat::from_fn(N, 1, |i, _| covariate[i] / norm),
            counts,
            rates,
            coords,
        }
    }

    impl Tissue {
        fn spots(&self, phi: f64, covariates: usize) -> Spots<'_> {
            Spots {
                size: &self.size,
                depth: &self.depth,
                sample: &self.sample,
                floor: &self.floor,
                error: &self.error,
                own: &self.own,
                covariates: self.covariates.as_ref().subcols(0, covariates),
                phi,
            }
        }

        fn depth(&self, phi: f64, covariates: usize) -> Depth {
            let patches = Patches::new(self.coords.as_ref(), &self.sample).unwrap();
            Depth::new(patches, self.spots(phi, covariates)).unwrap()
        }
    }

    fn spread(tau: f64) -> Spread {
        Spread { tau, rough: tau, smooth: tau, rough_is_known: true }
    }

    #[test]
    fn without_departures_residuals_are_those_of_the_offset_model() {
        let mut tissue = tissue(12);
        tissue.floor = vec![0.9, 0.0];
        let depth = tissue.depth(0.3, 0);
        let weights = vec![0.5; 12];
        let got = depth
            .residuals(Counts::Dense(tissue.counts.as_ref()), tissue.rates.as_ref(), &weights, &spread(0.0))
            .unwrap();
        for g in 0..12 {
            for i in 0..N {
                let s = tissue.sample[i];
                let mu = tissue.size[i] * tissue.rates[(s, g)];
                let at = tissue.size[i].max(tissue.floor[s]) * tissue.rates[(s, g)];
                let expected = (tissue.counts[(i, g)] - mu) / (at + 0.3 * at * at).sqrt();
                assert!((got[(i, g)] - expected).abs() < 1e-12);
            }
        }
        // a share of nothing, and a count that nothing bounds but the number of spots
        let mut counts = Mat::zeros(N, 1);
        counts[(3, 0)] = 1e9;
        let rates = Mat::from_fn(2, 1, |s, _| s as f64);
        let got =
            depth.residuals(Counts::Dense(counts.as_ref()), rates.as_ref(), &[0.0], &spread(0.0)).unwrap();
        assert_eq!((got[(0, 0)], got[(3, 0)]), (0.0, (N as f64).sqrt()));
    }

    /// The formulas of the module's head, with dense projections.
    #[test]
    fn residuals_and_departures_follow_their_definition() {
        let tissue = tissue(12);
        let depth = tissue.depth(0.3, 1);
        let weights: Vec<f64> = (0..12).map(|g| 1.0 / (1.0 + g as f64)).collect();
        let (counts, rates) = (tissue.counts.as_ref(), tissue.rates.as_ref());
        let all = Counts::Dense(counts);
        let (rough, smooth) = depth.departures(all, rates, &weights).unwrap();
        let got = depth.residuals(all, rates, &weights, &spread(0.2)).unwrap();

        let patches = Patches::new(tissue.coords.as_ref(), &tissue.sample).unwrap();
        let projection = Mat::from_fn(N, N, |i, j| {
            let place = |row: usize| patches.rows().iter().position(|&r| r == row).unwrap();
            let mut unit = vec![0.0; N];
            unit[place(j)] = 1.0;
            let mut smooth = vec![0.0; N];
            patches.smooth(&unit, &mut smooth);
            smooth[place(i)]
        });
        let c = &tissue.covariates;
        let annihilate = Mat::from_fn(N, N, |i, j| {
            let same = tissue.sample[i] == tissue.sample[j];
            f64::from(u8::from(i == j)) - if same { 2.0 / N as f64 } else { 0.0 } - c[(i, 0)] * c[(j, 0)]
        });
        let freedom = N as f64 - projection.diagonal().column_vector().iter().sum::<f64>() - 2.0;
        for g in 0..12 {
            let mu = |i: usize| tissue.size[i] * rates[(tissue.sample[i], g)];
            let w = |i: usize| (mu(i) / (1.0 + 0.3 * mu(i))).sqrt();
            let r = Mat::from_fn(N, 1, |i, _| (counts[(i, g)] - mu(i)) * w(i) / mu(i));
            let centre = |s: usize| {
                let rows = || (0..N).filter(move |i| i % 2 == s);
                rows().map(|i| w(i) * w(i) * tissue.depth[i]).sum::<f64>()
                    / rows().map(|i| w(i) * w(i)).sum::<f64>()
            };
            let e = Mat::from_fn(N, 1, |i, _| (tissue.depth[i] - centre(i % 2)) * w(i));
            let means = {
                let mean =
                    |s: usize| (0..N).filter(|i| i % 2 == s).map(|i| r[(i, 0)]).sum::<f64>() * 2.0 / N as f64;
                Mat::from_fn(N, 1, |i, _| mean(i % 2))
            };
            let (r, e) = (&annihilate * &r, &annihilate * &e);
            let (pr, pe) = (&projection * &r, &projection * &e);
            let (hr, he) = (&r - &pr, &e - &pe);
            let inner = |a: &Mat<f64>, b: &Mat<f64>| (a.transpose() * b)[(0, 0)];
            let variance = (inner(&hr, &hr) - inner(&he, &hr).powi(2) / inner(&he, &he)) / freedom;
            let part = |e: &Mat<f64>, r: &Mat<f64>, share: &dyn Fn(usize) -> f64| {
                let noise: f64 = (0..N).map(|i| w(i) * w(i) * share(i) * 0.001).sum();
                let own: f64 = (0..N).map(|i| mu(i) * share(i) * 0.0005).sum();
                Departure {
                    energy: inner(e, e),
                    signal: inner(e, e) - noise,
                    product: inner(e, r) + noise - weights[g] * own,
                    variance,
                }
            };
            let expected = part(&he, &hr, &|i| 1.0 - projection[(i, i)]);
            for (got, expected) in
                [(rough[g], expected), (smooth[g], part(&pe, &pr, &|i| projection[(i, i)]))]
            {
                for (a, b) in [
                    (got.energy, expected.energy),
                    (got.signal, expected.signal),
                    (got.product, expected.product),
                    (got.variance, expected.variance),
                ] {
                    assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{got:?} {expected:?}");
                }
            }
            let (b, se2) = (expected.value(), expected.square_error());
            let m = 0.04 / (0.04 + se2) * b;
            let v = 0.04 * se2 / (0.04 + se2);
            let left = 1.0 / (1.0 + v * inner(&pe, &pe) / variance).sqrt();
            let excess = (1.0 - left) * (inner(&pe, &pr) / inner(&pe, &pe) - m);
            for i in 0..N {
                let expected = r[(i, 0)] + means[(i, 0)] - m * e[(i, 0)] - excess * pe[(i, 0)];
                assert!((got[(i, g)] - expected).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn without_a_bound_and_where_nothing_is_rough_it_is_a_regression() {
        // everything is smooth among as many spots as functions
        let patches = Patches::from_parts(
            vec![2, 0, 1],
            vec![0, 3],
            Mat::<f64>::identity(3, 3)
                .col_iter()
                .flat_map(|c| c.iter().copied().collect::<Vec<_>>())
                .collect(),
        )
        .unwrap();
        let (size, depth) = ([1.0, 2.0, 4.0], [0.0, 2f64.ln(), 4f64.ln()]);
        let zero = [0.0; 3];
        let none = Mat::zeros(3, 0);
        let spots = Spots {
            size: &size,
            depth: &depth,
            sample: &[0, 0, 0],
            floor: &[0.0],
            error: &zero,
            own: &zero,
            covariates: none.as_ref(),
            phi: 0.5,
        };
        let model = Depth::new(patches, spots).unwrap();
        let counts = Mat::from_fn(3, 1, |i, _| [3.0, 1.0, 9.0][i]);
        let rates = Mat::from_fn(1, 1, |_, _| 1.5);
        let free =
            Spread { tau: f64::INFINITY, rough: f64::INFINITY, smooth: f64::INFINITY, rough_is_known: false };
        let got = model.residuals(Counts::Dense(counts.as_ref()), rates.as_ref(), &[0.0], &free).unwrap();
        let offset =
            model.residuals(Counts::Dense(counts.as_ref()), rates.as_ref(), &[0.0], &spread(0.0)).unwrap();
        let w: Vec<f64> = size.iter().map(|s| (1.5 * s / (1.0 + 0.75 * s)).sqrt()).collect();
        let middle = w.iter().zip(&depth).map(|(w, d)| w * w * d).sum::<f64>() / dot(&w, &w);
        let mut e: Vec<f64> = w.iter().zip(&depth).map(|(w, d)| w * (d - middle)).collect();
        let mean = e.iter().sum::<f64>() / 3.0;
        e.iter_mut().for_each(|e| *e -= mean);
        let along = (0..3).map(|i| offset[(i, 0)] * e[i]).sum::<f64>() / dot(&e, &e);
        for i in 0..3 {
            assert!((got[(i, 0)] - offset[(i, 0)] + along * e[i]).abs() < 1e-12);
        }
    }

    #[test]
    fn a_gene_is_the_same_in_any_block() {
        let tissue = tissue(12);
        let depth = tissue.depth(0.3, 1);
        let weights = vec![0.3; 12];
        let (counts, rates) = (tissue.counts.as_ref(), tissue.rates.as_ref());
        let whole = depth.residuals(Counts::Dense(counts), rates, &weights, &spread(0.15)).unwrap();
        for g in [0, 5, 11] {
            let one = depth
                .residuals(
                    Counts::Dense(counts.subcols(g, 1)),
                    rates.subcols(g, 1),
                    &weights[g..=g],
                    &spread(0.15),
                )
                .unwrap();
            assert_eq!(one.col(0), whole.col(g));
        }
    }

    #[test]
    fn sparse_counts_are_the_same_counts() {
        let tissue = tissue(12);
        let depth = tissue.depth(0.3, 1);
        let weights = vec![0.3; 12];
        let rates = tissue.rates.as_ref();
        let (mut starts, mut rows, mut values) = (vec![0], Vec::new(), Vec::new());
        for column in tissue.counts.col_iter() {
            for (i, &count) in column.iter().enumerate().filter(|(_, count)| **count != 0.0) {
                rows.push(i as i32);
                values.push(count);
            }
            starts.push(rows.len() as i32);
        }
        let sparse = Counts::Sparse { spots: N, starts: &starts, rows: &rows, values: &values };
        let dense = Counts::Dense(tissue.counts.as_ref());
        assert_eq!(
            depth.departures(sparse, rates, &weights).unwrap(),
            depth.departures(dense, rates, &weights).unwrap()
        );
        assert_eq!(
            depth.residuals(sparse, rates, &weights, &spread(0.15)).unwrap(),
            depth.residuals(dense, rates, &weights, &spread(0.15)).unwrap()
        );
        let groups: Vec<usize> = (0..N).map(|i| (7 * i) % 11).collect();
        let sums = group_sums(sparse, &groups, 11).unwrap();
        assert_eq!(sums, group_sums(dense, &groups, 11).unwrap());
        let expected = |k: usize, g: usize| -> f64 {
            (0..N).filter(|&i| groups[i] == k).map(|i| tissue.counts[(i, g)]).sum()
        };
        assert_eq!(sums, Mat::from_fn(11, 12, expected));
        assert!(group_sums(sparse, &groups, 10).is_err() && group_sums(sparse, &groups[1..], 11).is_err());
        let damaged = [
            Counts::Sparse { spots: 3, starts: &starts, rows: &rows, values: &values },
            Counts::Sparse { spots: N, starts: &starts[1..], rows: &rows, values: &values },
            Counts::Sparse { spots: N, starts: &starts, rows: &rows[1..], values: &values },
            Counts::Sparse { spots: N, starts: &[], rows: &rows, values: &values },
        ];
        for counts in damaged {
            assert!(depth.departures(counts, rates, &weights).is_err());
        }
    }

    #[test]
    fn the_spread_of_exponents_is_found_by_either_part() {
        let mut normal = normal(3);
        let mut draw = |genes: usize, tau: f64, se: f64, signal: f64| -> Vec<Departure> {
            (0..genes)
                .map(|g| {
                    let energy = 50.0 / (1.0 + (g % 5) as f64);
                    let variance = se * se * energy;
                    let product = energy * (tau * normal() + (variance / energy).sqrt() * normal());
                    Departure { energy, signal: signal * energy, product, variance }
                })
                .collect()
        };
        for tau in [0.0, 0.1, 0.2] {
            let (rough, smooth) = (draw(1500, tau, 0.15, 1.0), draw(1500, tau, 0.05, 1.0));
            let spread = Spread::of(&rough, &smooth);
            assert!((spread.smooth - tau).abs() < 0.02, "{spread:?}");
            assert!(spread.rough >= tau - 0.02 && spread.rough < tau + 0.08, "{spread:?}");
            assert_eq!(spread.tau, spread.rough.min(spread.smooth));
        }
        // a tenth of the genes spatial along depth moves the smooth part little, the rough one not at all
        let mut smooth = draw(1500, 0.1, 0.05, 1.0);
        smooth.iter_mut().step_by(10).for_each(|d| d.product += 2.0 * d.energy);
        let rough = draw(1500, 0.1, 0.15, 1.0);
        assert!(Spread::of(&rough, &smooth).tau < 0.13);
        // size factors that are nothing but error; too few genes; exponents that nobody believes
        let noise = draw(1500, 0.1, 0.1, 0.1);
        assert_eq!(Spread::of(&noise, &noise).tau, 0.0);
        assert_eq!(Spread::of(&noise, &smooth).tau, Spread::of(&noise, &smooth).smooth);
        assert!(!Spread::of(&noise, &smooth).rough_is_known);
        assert_eq!(Spread::of(&rough[..5], &smooth[..5]).tau, USUAL_SPREAD);
        let wild = draw(1500, 2.0, 0.1, 1.0);
        assert_eq!(Spread::of(&wild, &wild).tau, LARGEST_SPREAD);
    }

    #[test]
    fn parts_are_checked() {
        let tissue = tissue(3);
        let patches = || Patches::new(tissue.coords.as_ref(), &tissue.sample).unwrap();
        let good = tissue.spots(0.1, 0);
        let zero = vec![0.0; N];
        assert!(Depth::new(patches(), Spots { size: &zero, ..good }).is_err());
        assert!(Depth::new(patches(), Spots { depth: &zero[1..], ..good }).is_err());
        assert!(Depth::new(patches(), Spots { phi: f64::NAN, ..good }).is_err());
        let depth = Depth::new(patches(), good).unwrap();
        let (counts, rates) = (Counts::Dense(tissue.counts.as_ref()), tissue.rates.as_ref());
        assert!(depth.departures(counts, rates, &[1.0]).is_err());
        assert!(
            depth
                .residuals(
                    Counts::Dense(tissue.counts.as_ref().subrows(1, 7)),
                    rates,
                    &[1.0; 3],
                    &spread(0.1)
                )
                .is_err()
        );
        assert!(depth.residuals(counts, rates, &[1.0; 3], &spread(-0.1)).is_err());
    }
}
