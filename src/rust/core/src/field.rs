//! The field of one gene: where in the tissue its spatial part is high or low, and how sure that is.
//!
//! `y = mu + f + e`, `f ~ N(0, s2 K)`, `e ~ N(0, s2 delta I)`, with a squared exponential K whose parameters are known
//! from the test; mu is the generalised least squares mean of each sample. What is reported is f less its own mean over
//! the sample's locations, because mu takes up the level of a wide field. With few locations the posterior is exact;
//! with many it comes from near ones, see `kriging`.
//!
//! The simultaneous band is mean ± critical · standard error, with the quantile of the largest of all standardised errors,
//! over draws from the posterior by conditioning (Matheron's rule: Chilès & Delfiner 2012, doi:10.1002/9781118136188). The
//! fields that are drawn are sums of random waves (Rahimi & Recht 2007), the same ones on every run.

use crate::error::{Error, Result, check_size};
use crate::factors::anchors::{CELL, point, squared};
use crate::factors::kriging::{Level, Weights, forward};
use crate::factors::small::{add, dot};
use crate::interrupt;
use crate::kd_tree::Point;
use crate::locations::Locations;
use crate::random::SplitMix64;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Locations of a sample up to which the posterior is exact.
const DENSE: usize = 1000;
/// Waves of a draw, and draws: of few locations, of many, and at a time.
const WAVES: usize = 512;
const DRAWS: usize = 500;
const DRAWS_OF_MANY: usize = 200;
const BATCH: usize = 50;
/// Locations that one task takes.
const ROWS: usize = 256;

/// What is known of a gene's field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldModel {
    /// Lengthscale of the squared exponential, positive.
    pub lengthscale: f64,
    /// Variance of the noise over that of the field, positive.
    pub delta: f64,
    /// Prior variance of the field, in squares of the unit of y.
    pub variance: f64,
    /// Probability that the whole field lies within the band, between 0 and 1.
    pub level: f64,
}

/// The posterior of a gene's field at some points.
#[derive(Debug, Clone)]
pub struct Field {
    /// The mean, in the unit of y.
    pub mean: Vec<f64>,
    /// The standard deviation at each point by itself.
    pub std_error: Vec<f64>,
    /// The band's half width, in standard deviations.
    pub critical: f64,
}

/// New points, with the sample of each (from 0); `None` is the locations themselves.
pub type Places<'a> = Option<(MatRef<'a, f64>, &'a [usize])>;

/// The field of a gene whose values are `y`, at the locations or elsewhere.
///
/// # Errors
/// Sizes that disagree, values that are not finite, or a parameter outside its range.
pub fn gene_field(locations: &Locations, y: &[f64], model: &FieldModel, places: Places<'_>) -> Result<Field> {
    field(locations, y, model, places, DENSE)
}

fn field(
    locations: &Locations,
    y: &[f64],
    model: &FieldModel,
    places: Places<'_>,
    dense: usize,
) -> Result<Field> {
    check(locations, y, model, places)?;
    let targets = targets(locations, places);
    let exact = locations.samples().iter().all(|rows| rows.len() <= dense);
    let predictor = if exact {
        Predictor::Exact(exact_predictors(locations, model, &targets)?)
    } else {
        Predictor::near(locations, model, &targets)?
    };
    let (own, at) = predictor.apply(locations, y, &targets);
    let centres = centres(locations, &own);
    let mean = at.iter().zip(&targets.sample).map(|(x, &s)| x - centres[s]).collect();
    let std_error = predictor.variances().iter().map(|v| v.max(0.0).sqrt()).collect::<Vec<f64>>();
    let draws = if exact { DRAWS } else { DRAWS_OF_MANY };
    let critical = critical(locations, model, &targets, &predictor, &std_error, draws)?;
    let scale = model.variance.sqrt();
    Ok(Field { mean, std_error: std_error.iter().map(|s| s * scale).collect(), critical })
}

fn check(locations: &Locations, y: &[f64], model: &FieldModel, places: Places<'_>) -> Result<()> {
    check_size("values of the gene", locations.len(), y.len())?;
    let wrong = |name, value, must_be| Err(Error::Parameter { name, value, must_be });
    for (name, value) in
        [("lengthscale", model.lengthscale), ("delta", model.delta), ("variance", model.variance)]
    {
        if !(value > 0.0 && value.is_finite()) {
            return wrong(name, value, "positive and finite");
        }
    }
    if !(model.level > 0.0 && model.level < 1.0) {
        return wrong("level", model.level, "between 0 and 1");
    }
    if let Some(&value) = y.iter().find(|y| !y.is_finite()) {
        return wrong("y", value, "finite");
    }
    if let Some((new, sample)) = places {
        locations.check_new(new, sample)?;
    }
    Ok(())
}

/// Where the field is wanted.
struct Targets {
    /// Whether these are the locations, in their order.
    own: bool,
    points: Vec<Point>,
    sample: Vec<usize>,
}

fn targets(locations: &Locations, places: Places<'_>) -> Targets {
    let at =
        |m: MatRef<'_, f64>, i: usize| std::array::from_fn(|k| if k < m.ncols() { m[(i, k)] } else { 0.0 });
    match places {
        Some((new, sample)) => Targets {
            own: false,
            points: (0..new.nrows()).map(|i| at(new, i)).collect(),
            sample: sample.to_vec(),
        },
        None => {
            let mut sample = vec![0; locations.len()];
            locations.samples().iter().enumerate().for_each(|(s, rows)| sample[rows.clone()].fill(s));
            Targets { own: true, points: (0..locations.len()).map(|i| point(locations, i)).collect(), sample }
        }
    }
}

/// The mean of each sample.
fn centres(locations: &Locations, x: &[f64]) -> Vec<f64> {
    locations.samples().iter().map(|rows| x[rows.clone()].iter().sum::<f64>() / rows.len() as f64).collect()
}

/// The posterior mean as a linear function of y, and what it leaves of the variance 1.
enum Predictor {
    Exact(Vec<Exact>),
    Near(Box<Near>),
}

/// One sample: the lower Cholesky factor of K + delta, row by row.
struct Exact {
    factor: Vec<f64>,
    delta: f64,
    /// (K + delta)⁻¹ 1, and its sum.
    ones: Vec<f64>,
    total: f64,
    /// Positions of the sample's targets, and the kernel between each of them and all locations.
    at: Vec<usize>,
    cross: Vec<f64>,
    variance: Vec<f64>,
}

struct Near {
    level: Level,
    delta: f64,
    own: Weights,
    new: Option<Weights>,
    /// Of the constant 1, what is not predicted; and the sums that give each sample's mean.
    ones: Vec<f64>,
    totals: Vec<f64>,
    rows: Vec<usize>,
}

fn exact_predictors(locations: &Locations, model: &FieldModel, targets: &Targets) -> Result<Vec<Exact>> {
    let kernel = |d2: f64| (-0.5 * d2 / (model.lengthscale * model.lengthscale)).exp();
    let one = |(s, rows): (usize, &std::ops::Range<usize>)| {
        interrupt::check()?;
        let n = rows.len();
        let places: Vec<Point> = rows.clone().map(|row| point(locations, row)).collect();
        let mut factor = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                factor[i * n + j] = kernel(squared(&places[i], &places[j]));
            }
            factor[i * n + i] += model.delta;
        }
        decompose(&mut factor, n);
        let mut ones = vec![1.0; n];
        solve(&factor, &mut ones);
        let at: Vec<usize> = (0..targets.sample.len()).filter(|&i| targets.sample[i] == s).collect();
        let mut cross = Vec::new();
        let variance = if targets.own {
            // delta - delta² [C⁻¹]_ii.
            let own = |i: usize| {
                let mut unit = vec![0.0; n];
                unit[i] = 1.0;
                model.delta - model.delta * model.delta * forward(&factor, &mut unit)
            };
            (0..n).into_par_iter().map(own).collect()
        } else {
            for &i in &at {
                cross.extend(places.iter().map(|place| kernel(squared(place, &targets.points[i]))));
            }
            let left = |k: &[f64]| 1.0 - forward(&factor, &mut k.to_vec());
            cross.par_chunks_exact(n).map(left).collect()
        };
        let total = ones.iter().sum();
        Ok(Exact { factor, delta: model.delta, ones, total, at, cross, variance })
    };
    locations.samples().iter().enumerate().map(one).collect()
}

/// The lower Cholesky factor, row by row, in place.
fn decompose(a: &mut [f64], n: usize) {
    for i in 0..n {
        let (before, row) = a.split_at_mut(i * n);
        for j in 0..i {
            let other = &before[j * n..j * n + n];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        // Delta is on the diagonal, so that it is positive but for rounding.
        row[i] = (row[i] - dot(&row[..i], &row[..i])).max(1e-14).sqrt();
    }
}

/// L L' b = b in place.
fn solve(factor: &[f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        b[i] = (b[i] - dot(&factor[i * n..i * n + i], &b[..i])) / factor[i * n + i];
    }
    for i in (0..n).rev() {
        let x = b[i] / factor[i * n + i];
        add(&mut b[..i], -x, &factor[i * n..i * n + i]);
        b[i] = x;
    }
}

impl Exact {
    /// The field at the locations and at the targets.
    fn apply(&self, y: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut alpha = y.to_vec();
        solve(&self.factor, &mut alpha);
        let mean = alpha.iter().sum::<f64>() / self.total;
        add(&mut alpha, -mean, &self.ones);
        let own: Vec<f64> = y.iter().zip(&alpha).map(|(y, a)| y - mean - self.delta * a).collect();
        let new = self.cross.chunks_exact(y.len()).map(|k| dot(k, &alpha)).collect();
        (own, new)
    }
}

/// The side of a cell of locations, in lengthscales: what a field varies within it must be little beside the noise, and
/// the wider the cells are, the farther their number reaches.
fn cell(delta: f64) -> f64 {
    CELL * (0.5 * delta).sqrt().clamp(1.0, 2.0)
}

impl Predictor {
    fn near(locations: &Locations, model: &FieldModel, targets: &Targets) -> Result<Self> {
        let level = Level::with_cells(locations, model.lengthscale, locations.spacing(), cell(model.delta));
        let rows: Vec<usize> = (0..locations.len()).collect();
        let own = level.weights(locations, &rows, &[model.delta])?.pop().ok_or(Error::Shape {
            what: "weights",
            expected: 1,
            got: 0,
        })?;
        let new = if targets.own {
            None
        } else {
            let points: Vec<(Point, usize)> =
                targets.points.iter().copied().zip(targets.sample.iter().copied()).collect();
            Some(level.weights_at(&points, model.delta)?)
        };
        let one = vec![1.0; rows.len()];
        let ones = level.errors(&[&own], &rows, &one, &level.anchors.sums(&one));
        let scaled: Vec<f64> = ones.iter().zip(&own.variance).map(|(e, v)| e / v).collect();
        let totals = locations.samples().iter().map(|r| scaled[r.clone()].iter().sum()).collect();
        Ok(Self::Near(Box::new(Near { level, delta: model.delta, own, new, ones, totals, rows })))
    }

    /// The variance at each target that is left of 1.
    fn variances(&self) -> Vec<f64> {
        match self {
            Self::Exact(samples) => {
                let count = samples.iter().map(|s| s.variance.len()).sum();
                let mut out = vec![0.0; count];
                for sample in samples {
                    sample.at.iter().zip(&sample.variance).for_each(|(&i, &v)| out[i] = v);
                }
                out
            }
            Self::Near(near) => match &near.new {
                Some(new) => new.variance.clone(),
                None => near.own.variance.iter().map(|v| near.delta * (1.0 - near.delta / v)).collect(),
            },
        }
    }

    /// The field at the locations and at the targets, given values at the locations.
    fn apply(&self, locations: &Locations, y: &[f64], targets: &Targets) -> (Vec<f64>, Vec<f64>) {
        let (own, new) = match self {
            Self::Exact(samples) => {
                let mut own = vec![0.0; y.len()];
                let mut new = vec![0.0; if targets.own { 0 } else { targets.points.len() }];
                for (sample, rows) in samples.iter().zip(locations.samples()) {
                    let (mine, there) = sample.apply(&y[rows.clone()]);
                    own[rows.clone()].copy_from_slice(&mine);
                    sample.at.iter().zip(there).for_each(|(&i, x)| new[i] = x);
                }
                (own, new)
            }
            Self::Near(near) => near.apply(locations, y, targets),
        };
        let at = if targets.own { own.clone() } else { new };
        (own, at)
    }
}

impl Near {
    fn apply(&self, locations: &Locations, y: &[f64], targets: &Targets) -> (Vec<f64>, Vec<f64>) {
        let sums = self.level.anchors.sums(y);
        let errors = self.level.errors(&[&self.own], &self.rows, y, &sums);
        let mut own = vec![0.0; y.len()];
        let mut means = Vec::with_capacity(self.totals.len());
        let mut rest = y.to_vec();
        for (rows, total) in locations.samples().iter().zip(&self.totals) {
            let mean = rows.clone().map(|i| errors[i] / self.own.variance[i]).sum::<f64>() / total;
            for i in rows.clone() {
                rest[i] = y[i] - mean;
                let error = errors[i] - mean * self.ones[i];
                own[i] = rest[i] - self.delta * error / self.own.variance[i];
            }
            means.push(mean);
        }
        let new = match &self.new {
            Some(weights) => self.level.means(weights, targets.points.len(), &self.level.anchors.sums(&rest)),
            None => Vec::new(),
        };
        (own, new)
    }
}

/// The quantile of the largest standardised error of the whole field.
fn critical(
    locations: &Locations,
    model: &FieldModel,
    targets: &Targets,
    predictor: &Predictor,
    std_error: &[f64],
    draws: usize,
) -> Result<f64> {
    let samples = locations.samples().len();
    let points: Vec<Point> = (0..locations.len()).map(|i| point(locations, i)).collect();
    let mut own_sample = vec![0; points.len()];
    locations.samples().iter().enumerate().for_each(|(s, rows)| own_sample[rows.clone()].fill(s));
    let noise = model.delta.sqrt();
    let mut largest = Vec::with_capacity(draws);
    for first in (0..draws).step_by(BATCH) {
        interrupt::check()?;
        let count = BATCH.min(draws - first);
        let waves = Waves::new(model.lengthscale, locations.dim(), samples, first, count);
        let there = waves.at(&points, &own_sample);
        let wanted = if targets.own { None } else { Some(waves.at(&targets.points, &targets.sample)) };
        let found: Vec<f64> = (0..count)
            .into_par_iter()
            .map(|draw| {
                let field = there.col_as_slice(draw);
                let mut random = SplitMix64::new(3, &[(first + draw) as u64]);
                let seen: Vec<f64> = field.iter().map(|f| f + noise * random.normal()).collect();
                let (own, at) = predictor.apply(locations, &seen, targets);
                let own_errors: Vec<f64> = field.iter().zip(&own).map(|(f, m)| f - m).collect();
                let centres = centres(locations, &own_errors);
                let truth = wanted.as_ref().map_or(field, |w| w.col_as_slice(draw));
                let error = |i: usize| (truth[i] - at[i] - centres[targets.sample[i]]).abs() / std_error[i];
                (0..at.len()).filter(|&i| std_error[i] > 0.0).map(error).fold(0.0, f64::max)
            })
            .collect();
        largest.extend(found);
    }
    largest.sort_by(f64::total_cmp);
    let rank = (model.level * (draws + 1) as f64).ceil() as usize;
    Ok(largest[rank.clamp(1, draws) - 1])
}

/// Draws of a field of variance 1 as sums of waves.
struct Waves {
    frequencies: Vec<Point>,
    /// For each sample: cosines, then sines × draws.
    weights: Vec<Mat<f64>>,
}

impl Waves {
    fn new(lengthscale: f64, dim: usize, samples: usize, first: usize, count: usize) -> Self {
        let mut random = SplitMix64::new(4, &[]);
        let frequencies = (0..WAVES)
            .map(|_| std::array::from_fn(|k| if k < dim { random.normal() / lengthscale } else { 0.0 }))
            .collect();
        let scale = (WAVES as f64).sqrt().recip();
        let weights = (0..samples)
            .map(|s| {
                let mut random = SplitMix64::new(5, &[s as u64, first as u64]);
                Mat::from_fn(2 * WAVES, count, |_, _| scale * random.normal())
            })
            .collect();
        Self { frequencies, weights }
    }

    /// The draws at some points: points × draws.
    fn at(&self, points: &[Point], sample: &[usize]) -> Mat<f64> {
        let count = self.weights[0].ncols();
        let mut out = Mat::zeros(points.len(), count);
        out.as_mut().par_row_chunks_mut(ROWS).enumerate().for_each(|(chunk, mut out)| {
            let first = chunk * ROWS;
            let rows = out.nrows();
            let mut features = Mat::zeros(rows, 2 * WAVES);
            for (w, frequency) in self.frequencies.iter().enumerate() {
                for i in 0..rows {
                    let (sin, cos) = along(frequency, &points[first + i]).sin_cos();
                    features[(i, w)] = cos;
                    features[(i, WAVES + w)] = sin;
                }
            }
            // Runs of points of one sample.
            let mut start = 0;
            while start < rows {
                let s = sample[first + start];
                let run = (start..rows).take_while(|&i| sample[first + i] == s).count();
                let part = features.subrows(start, run);
                let target = out.as_mut().subrows_mut(start, run);
                matmul(target, Accum::Replace, part, self.weights[s].as_ref(), 1.0, Par::Seq);
                start += run;
            }
        });
        out
    }
}

fn along(a: &Point, b: &Point) -> f64 {
    (0..3).map(|k| a[k] * b[k]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::irregular;
    use faer::linalg::solvers::DenseSolveCore;

    fn model(lengthscale: f64, delta: f64) -> FieldModel {
        FieldModel { lengthscale, delta, variance: 1.0, level: 0.9 }
    }

    #[test]
    fn is_the_posterior_of_seven_locations() {
        let locations = irregular(7, 2, 1);
        let model = FieldModel { variance: 2.5, ..model(0.4, 0.3) };
        let y = [0.3, -1.0, 2.0, 0.1, 0.7, -0.4, 1.1];
        let k = Mat::from_fn(7, 7, |i, j| (-0.5 * locations.squared_distance(i, j) / 0.16).exp());
        let c = Mat::from_fn(7, 7, |i, j| k[(i, j)] + if i == j { 0.3 } else { 0.0 });
        let inverse = c.partial_piv_lu().inverse();
        let ones = Mat::from_fn(7, 1, |_, _| 1.0);
        let values = Mat::from_fn(7, 1, |i, _| y[i]);
        let mu =
            (ones.transpose() * &inverse * &values)[(0, 0)] / (ones.transpose() * &inverse * &ones)[(0, 0)];
        let field = &k * &inverse * (&values - mu * &ones);
        let centre = (0..7).map(|i| field[(i, 0)]).sum::<f64>() / 7.0;
        let left = &k - &k * &inverse * &k;
        let found = gene_field(&locations, &y, &model, None).unwrap();
        // At the same places as if they were new.
        let again = gene_field(&locations, &y, &model, Some((locations.coords(), &[0; 7]))).unwrap();
        for i in 0..7 {
            assert!((found.mean[i] - field[(i, 0)] + centre).abs() < 1e-10);
            assert!((found.std_error[i] - (2.5 * left[(i, i)]).sqrt()).abs() < 1e-10);
            assert!((again.mean[i] - found.mean[i]).abs() < 1e-10);
            assert!((again.std_error[i] - found.std_error[i]).abs() < 1e-10);
        }
        assert!((again.critical - found.critical).abs() < 1e-8);
    }

    #[test]
    fn near_locations_tell_nearly_all() {
        let locations = irregular(400, 2, 2);
        let y: Vec<f64> = (0..400)
            .map(|i| (6.0 * locations.coords()[(i, 0)]).sin() + SplitMix64::new(1, &[i as u64]).normal())
            .collect();
        let new = Mat::from_fn(50, 2, |i, k| [i as f64 / 50.0, 0.4][k]);
        let own = (model(0.15, 2.0), None);
        let there = |lengthscale, delta| (model(lengthscale, delta), Some((new.as_ref(), &[0; 50][..])));
        for (model, places) in [own, there(0.15, 2.0), there(0.3, 12.0), there(0.05, 0.3)] {
            let exact = field(&locations, &y, &model, places, 400).unwrap();
            let near = field(&locations, &y, &model, places, 0).unwrap();
            for i in 0..exact.mean.len() {
                assert!((exact.mean[i] - near.mean[i]).abs() < 0.3 * exact.std_error[i], "{i}");
                assert!((exact.std_error[i] / near.std_error[i] - 1.0).abs() < 0.05);
            }
            assert!((exact.critical / near.critical - 1.0).abs() < 0.1);
        }
    }

    #[test]
    fn the_band_holds_the_whole_field_as_often_as_it_says() {
        let locations = irregular(60, 2, 3);
        let model = model(0.2, 1.0);
        let mut k = vec![0.0; 60 * 60];
        for i in 0..60 {
            for j in 0..60 {
                k[i * 60 + j] = (-0.5 * locations.squared_distance(i, j) / 0.04).exp();
            }
            k[i * 60 + i] += 1e-9;
        }
        decompose(&mut k, 60);
        let mut random = SplitMix64::new(9, &[]);
        let repeats = 200;
        let mut held = 0;
        for _ in 0..repeats {
            let white: Vec<f64> = (0..60).map(|_| random.normal()).collect();
            let f: Vec<f64> = (0..60).map(|i| dot(&k[i * 60..=i * 60 + i], &white[..=i])).collect();
            let y: Vec<f64> = f.iter().map(|f| 3.0 + f + random.normal()).collect();
            let found = gene_field(&locations, &y, &model, None).unwrap();
            let centre = f.iter().sum::<f64>() / 60.0;
            let within =
                |i: usize| (f[i] - centre - found.mean[i]).abs() <= found.critical * found.std_error[i];
            held += usize::from((0..60).all(within));
        }
        // 0.9 with a standard error of 0.021.
        let share = held as f64 / repeats as f64;
        assert!((0.84..0.96).contains(&share), "{share}");
    }
}
