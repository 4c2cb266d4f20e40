//! The field of one gene: where in the tissue its spatial part is high or low, and how sure that is.
//!
//! `y = mu + f + e`, `f ~ N(0, s2 K)`, `e ~ N(0, s2 delta I)`, with a squared exponential K whose parameters are known
//! from the test; mu is the generalised least squares mean of each sample. What is reported is f less its own mean over
//! the sample's locations, because mu takes up the level of a wide field. Samples are independent.
//!
//! With up to [`DENSE`] locations in a sample the posterior is exact ([`dense`]). With more, the mean of a wide field is so
//! too, by waves ([`waves`]), and the error of another prediction, from near locations ([`near`]), is that of the mean plus
//! an independent difference: the variance is what near locations leave, less the square of that difference over draws.
//! Where waves are many, draws and standard errors come from near locations, and where they are too many the mean does as
//! well: there, near locations tell nearly all.
//!
//! Of 6,000 scattered locations, lengthscales from 1 to 20 and delta from 0.3 to 30, the mean is 2e-6 standard errors from
//! the exact one (root mean square; that from near locations alone 0.03 to 0.4), the standard error 0.01 to 1.6 %.
//!
//! The simultaneous band is mean ± critical · standard error, with the quantile of the largest of all standardised errors,
//! over draws from the posterior by conditioning (Matheron's rule: Chilès & Delfiner 2012, doi:10.1002/9781118136188) of
//! draws from the prior ([`prior`]).

mod dense;
mod near;
mod prior;
mod waves;

use crate::error::{Error, Result, check_size};
use crate::factors::frame::Frame;
use crate::interrupt;
use crate::kd_tree::Point;
use crate::locations::Locations;
use crate::random::SplitMix64;
use dense::Dense;
use faer::prelude::*;
use near::Near;
use prior::Prior;
use rayon::prelude::*;
use std::ops::Range;
use waves::Waves;

/// Locations of a sample up to which the posterior is exact.
const DENSE: usize = 5000;
/// Draws: with few locations, and with many in a sample.
const DRAWS: usize = 500;
const DRAWS_OF_MANY: usize = 200;
/// Values of draws that are held at a time, and at most and at least so many draws.
const BATCH: usize = 20_000_000;
const BATCH_DRAWS: [usize; 2] = [20, 250];
/// How far the mean may be from exact, in standard errors, and that of a draw.
const TOLERANCE: f64 = 1e-8;
const DRAW_TOLERANCE: f64 = 0.01;

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
    let exact = |rows: &Range<usize>| rows.len() <= dense;
    let exact_all = locations.samples().iter().all(exact);
    let count = places.map_or(locations.len(), |(new, _)| new.nrows());
    let mut mean = vec![0.0; count];
    let mut std_error = vec![0.0; count];
    let mut largest = vec![0.0_f64; if exact_all { DRAWS } else { DRAWS_OF_MANY }];
    let frame = Frame::new(locations);
    for (s, rows) in locations.samples().iter().enumerate() {
        interrupt::check()?;
        let targets = match places {
            Some((_, sample)) => (0..count).filter(|&i| sample[i] == s).collect(),
            None => rows.clone().collect::<Vec<usize>>(),
        };
        if targets.is_empty() {
            continue;
        }
        let dense = exact(rows);
        let origin = frame.origin(s);
        let place = |m: MatRef<'_, f64>, i: usize| -> Point {
            if dense {
                return std::array::from_fn(|k| if k < m.ncols() { m[(i, k)] - origin[k] } else { 0.0 });
            }
            // In spacings, so that which neighbours are chosen does not depend on the unit.
            frame.point(m.row(i).iter(), s)
        };
        let own: Vec<Point> = rows.clone().map(|row| place(locations.coords(), row)).collect();
        let new: Vec<Point> =
            places.map_or_else(Vec::new, |(new, _)| targets.iter().map(|&i| place(new, i)).collect());
        let unit = if dense { 1.0 } else { frame.unit() };
        let lengthscale = model.lengthscale / unit;
        let dim = locations.dim();
        let part = Part { sample: s, dim, own, new, y: &y[rows.clone()], lengthscale, model };
        let (own, new) = (&part.own, &part.new);
        let found = if dense {
            let smoother = Dense::new(own, new, lengthscale, model.delta)?;
            let variance = if new.is_empty() { smoother.own_variance() } else { smoother.new_variance() };
            let by = By { mean: &smoother, draws: &smoother, worse: None };
            part.posterior(&by, variance, &mut largest)?
        } else {
            let near = Near::new(&Locations::of_points(own, dim), new, lengthscale, model.delta)?;
            let variance = if new.is_empty() { near.own_variance() } else { near.new_variance() };
            let waves = Waves::new(own, new, dim, lengthscale, model.delta);
            let by = match &waves {
                Some(waves) if waves.is_fast() => By { mean: waves, draws: waves, worse: Some(&near) },
                Some(waves) => By { mean: waves, draws: &near, worse: None },
                None => By { mean: &near, draws: &near, worse: None },
            };
            part.posterior(&by, variance, &mut largest)?
        };
        for ((&i, m), se) in targets.iter().zip(found.0).zip(found.1) {
            (mean[i], std_error[i]) = (m, se);
        }
    }
    largest.sort_by(f64::total_cmp);
    let rank = (model.level * (largest.len() + 1) as f64).ceil() as usize;
    Ok(Field { mean, std_error, critical: largest[rank.clamp(1, largest.len()) - 1] })
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

/// The posterior mean of a field with known mean 0 as a linear function of the locations' values.
trait Smoother {
    /// At the locations and, below them, at the other places; a column for each of y's. The root mean square of errors is at
    /// most the tolerance, if the method has errors that are so to be had.
    fn smooth(&self, y: MatRef<'_, f64>, tolerance: f64) -> Result<Mat<f64>>;
}

/// What a posterior is computed by.
struct By<'a> {
    mean: &'a dyn Smoother,
    draws: &'a dyn Smoother,
    /// What leaves the variance that is known, if draws are smoothed by something better.
    worse: Option<&'a dyn Smoother>,
}

/// One sample.
struct Part<'a> {
    /// Its number.
    sample: usize,
    dim: usize,
    own: Vec<Point>,
    /// Where the field is wanted; empty: at its own locations.
    new: Vec<Point>,
    y: &'a [f64],
    /// In the unit of the points.
    lengthscale: f64,
    model: &'a FieldModel,
}

impl Part<'_> {
    /// The rows of what a smoother gives where the field is wanted.
    fn targets(&self) -> Range<usize> {
        if self.new.is_empty() { 0..self.own.len() } else { self.own.len()..self.own.len() + self.new.len() }
    }

    /// The mean and the standard error at the targets. `variance` is what is left of the variance 1; `largest` takes up the
    /// largest standardised error of each draw.
    fn posterior(
        &self,
        by: &By<'_>,
        variance: Vec<f64>,
        largest: &mut [f64],
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let n = self.own.len();
        let mut std_error: Vec<f64> = variance.into_iter().map(|v| v.max(0.0).sqrt()).collect();
        let typical = (std_error.iter().map(|se| se * se).sum::<f64>() / std_error.len() as f64).sqrt();
        let scale = self.model.variance.sqrt();
        let rough = self.y.iter().sum::<f64>() / n as f64;
        let y: Vec<f64> = self.y.iter().map(|y| (y - rough) / scale).collect();
        let mut mean = by.mean.smooth(ColRef::from_slice(&y).as_mat(), TOLERANCE * typical)?;
        let of_sample = SampleMean::new(by.mean, n, TOLERANCE * typical)?;
        of_sample.subtract(mean.col_as_slice_mut(0), &y);
        let mean = mean.col_as_slice(0)[self.targets()].iter().map(|x| x * scale).collect();

        let of_sample = SampleMean::new(by.draws, n, DRAW_TOLERANCE * typical)?;
        let points = self.own.iter().chain(&self.new).copied();
        let prior = Prior::new(points, self.dim, self.lengthscale, self.sample);
        let batch = (BATCH / (n + self.new.len())).clamp(BATCH_DRAWS[0], BATCH_DRAWS[1]);
        for (chunk, largest) in largest.chunks_mut(batch).enumerate() {
            interrupt::check()?;
            let first = chunk * batch;
            let truth = prior.draws(first, largest.len());
            let mut seen = truth.subrows(0, n).to_owned();
            seen.as_mut().par_col_chunks_mut(1).enumerate().for_each(|(draw, column)| {
                let place = [self.sample as u64, (first + draw) as u64];
                let mut random = SplitMix64::new(3, &place);
                column.col_mut(0).iter_mut().for_each(|y| *y += self.model.delta.sqrt() * random.normal());
            });
            let smooth = by.draws.smooth(seen.as_ref(), DRAW_TOLERANCE * typical)?;
            if let (0, Some(worse)) = (chunk, by.worse) {
                self.less_difference(&mut std_error, &smooth, &worse.smooth(seen.as_ref(), 0.0)?);
            }
            largest.par_iter_mut().enumerate().for_each(|(draw, largest)| {
                let (smooth, truth) = (smooth.col_as_slice(draw), truth.col_as_slice(draw));
                let found = of_sample.errors(smooth.to_vec(), seen.col_as_slice(draw), truth);
                let standardised = found[self.targets()].iter().zip(&std_error).filter(|(_, se)| **se > 0.0);
                *largest = standardised.map(|(x, se)| x.abs() / se).fold(*largest, f64::max);
            });
        }
        Ok((mean, std_error.into_iter().map(|se| se * scale).collect()))
    }

    /// From the standard errors of the worse of two predictions to those of the better one.
    fn less_difference(&self, std_error: &mut [f64], better: &Mat<f64>, worse: &Mat<f64>) {
        let draws = better.ncols();
        std_error.par_iter_mut().zip(self.targets()).for_each(|(se, i)| {
            let squares = (0..draws).map(|k| (better[(i, k)] - worse[(i, k)]).powi(2));
            let square = *se * *se;
            // Draws are few; the true difference is far less.
            *se = (square - squares.sum::<f64>() / draws as f64).max(0.5 * square).sqrt();
        });
    }
}

/// The generalised least squares mean of a sample.
struct SampleMean {
    /// What a smoother makes of ones.
    ones: Vec<f64>,
    /// What it leaves of them at the locations, in all.
    total: f64,
}

impl SampleMean {
    fn new(smoother: &dyn Smoother, n: usize, tolerance: f64) -> Result<Self> {
        let ones = smoother.smooth(Mat::full(n, 1, 1.0).as_ref(), tolerance)?.col_as_slice(0).to_vec();
        let total = ones[..n].iter().map(|x| 1.0 - x).sum();
        Ok(Self { ones, total })
    }

    /// From what a smoother makes of values to what it makes of them less their mean, less its own mean over the locations.
    fn subtract(&self, smooth: &mut [f64], y: &[f64]) {
        let left: f64 = y.iter().zip(&*smooth).map(|(y, smooth)| y - smooth).sum();
        // Below that it is rounding.
        let mean = if self.total > 1e-13 * y.len() as f64 { left / self.total } else { 0.0 };
        smooth.iter_mut().zip(&self.ones).for_each(|(smooth, one)| *smooth -= mean * one);
        centre(smooth, y.len());
    }

    /// How far a field that is known is from what a smoother makes of it with noise, each less its own mean.
    fn errors(&self, mut smooth: Vec<f64>, y: &[f64], truth: &[f64]) -> Vec<f64> {
        self.subtract(&mut smooth, y);
        smooth.iter_mut().zip(truth).for_each(|(x, truth)| *x -= truth);
        centre(&mut smooth, y.len());
        smooth
    }
}

/// Subtracts the mean of the first n.
fn centre(x: &mut [f64], n: usize) {
    let mean = x[..n].iter().sum::<f64>() / n as f64;
    x.iter_mut().for_each(|x| *x -= mean);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::anchors::point;
    use crate::factors::kriging::cholesky;
    use crate::factors::small::dot;
    use crate::fixtures::{irregular, two_samples};
    use faer::linalg::solvers::DenseSolveCore;

    fn model(lengthscale: f64, delta: f64) -> FieldModel {
        FieldModel { lengthscale, delta, variance: 1.0, level: 0.9 }
    }

    /// Mean and standard error by their formulas, at the locations.
    fn by_formula(locations: &Locations, y: &[f64], model: &FieldModel) -> (Vec<f64>, Vec<f64>) {
        let (mut mean, mut std_error) = (Vec::new(), Vec::new());
        for rows in locations.samples() {
            let (first, n) = (rows.start, rows.len());
            let square = model.lengthscale * model.lengthscale;
            let k = Mat::from_fn(n, n, |i, j| {
                (-0.5 * locations.squared_distance(first + i, first + j) / square).exp()
            });
            let inverse = (&k + model.delta * Mat::<f64>::identity(n, n)).partial_piv_lu().inverse();
            let ones = Mat::full(n, 1, 1.0);
            let values = Mat::from_fn(n, 1, |i, _| y[first + i]);
            let one = ones.transpose() * &inverse;
            let mu = (&one * &values)[(0, 0)] / (&one * &ones)[(0, 0)];
            let weights = &k * &inverse;
            let field = &weights * (&values - mu * &ones);
            let centre = (0..n).map(|i| field[(i, 0)]).sum::<f64>() / n as f64;
            for i in 0..n {
                let left = 1.0 - (0..n).map(|j| weights[(i, j)] * k[(i, j)]).sum::<f64>();
                mean.push(field[(i, 0)] - centre);
                std_error.push((model.variance * left).sqrt());
            }
        }
        (mean, std_error)
    }

    /// Waves of some lengths and noise.
    fn values(locations: &Locations) -> Vec<f64> {
        let wave = |i: usize| locations.coords().row(i).iter().map(|x| (0.7 * x).sin()).sum::<f64>();
        (0..locations.len()).map(|i| 3.0 + wave(i) + SplitMix64::new(1, &[i as u64]).normal()).collect()
    }

    fn sample_numbers(locations: &Locations) -> Vec<usize> {
        let sizes = locations.samples().iter().enumerate();
        sizes.flat_map(|(s, rows)| std::iter::repeat_n(s, rows.len())).collect()
    }

    fn differ(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn is_the_posterior_by_its_formula() {
        for (locations, lengthscale, delta) in [
            (irregular(7, 2, 1), 0.4, 0.3),
            (irregular(150, 1, 2), 4.0, 1.0),
            (irregular(300, 2, 2), 2.0, 0.3),
            (irregular(300, 3, 2), 1.5, 5.0),
            (two_samples(200), 3.0, 30.0),
            (irregular(1500, 2, 5), 5.0, 0.5),
        ] {
            let model = FieldModel { variance: 2.5, ..model(lengthscale, delta) };
            let y = values(&locations);
            let (mean, std_error) = by_formula(&locations, &y, &model);
            let found = gene_field(&locations, &y, &model, None).unwrap();
            assert!(differ(&found.mean, &mean) < 1e-9, "{} {lengthscale}", locations.len());
            assert!(differ(&found.std_error, &std_error) < 1e-9);
            // At the same places as if they were new.
            let sample = sample_numbers(&locations);
            let again = gene_field(&locations, &y, &model, Some((locations.coords(), &sample))).unwrap();
            assert!(differ(&again.mean, &mean) < 1e-9);
            assert!(differ(&again.std_error, &std_error) < 1e-8);
        }
    }

    #[test]
    fn neither_unit_nor_origin_nor_threads_matter() {
        let own = irregular(600, 2, 6);
        let y = values(&own);
        for dense in [0, DENSE] {
            let run = |threads: usize, unit: f64, origin: f64| {
                let coords = Mat::from_fn(600, 2, |i, k| unit * own.coords()[(i, k)] + origin);
                let locations = Locations::new(coords.as_ref()).unwrap();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| field(&locations, &y, &model(3.0 * unit, 1.0), None, dense)).unwrap()
            };
            let one = run(1, 1.0, 0.0);
            assert_eq!(format!("{one:?}"), format!("{:?}", run(3, 1.0, 0.0)));
            for (unit, origin) in [(3.0, 0.0), (1e-3, 0.0), (1.0, 1e5)] {
                let other = run(2, unit, origin);
                let all = [
                    differ(&one.mean, &other.mean),
                    differ(&one.std_error, &other.std_error),
                    (one.critical - other.critical).abs(),
                ];
                assert!(all.iter().all(|x| *x < 1e-8), "{dense} {unit} {origin}: {all:?}");
            }
        }
    }

    #[test]
    fn any_lengthscale_and_delta_have_a_field() {
        let locations = irregular(60, 2, 6);
        let y = values(&locations);
        for (lengthscale, delta) in [(1e-200, 1.0), (1e-3, 1e-6), (1e3, 1e-6), (1e200, 1e6), (4.0, 1e-9)] {
            for dense in [0, DENSE] {
                let found = field(&locations, &y, &model(lengthscale, delta), None, dense).unwrap();
                let all = found.mean.iter().chain(&found.std_error).chain([&found.critical]);
                assert!(all.into_iter().all(|x| x.is_finite()), "{lengthscale} {delta} {dense}");
            }
        }
    }

    #[test]
    fn new_places_where_locations_are_have_the_same_field() {
        let locations = two_samples(200);
        let y = values(&locations);
        let model = model(2.0, 1.0);
        for dense in [0, DENSE] {
            let own = field(&locations, &y, &model, None, dense).unwrap();
            // Some locations of both samples, and places far away.
            let rows = [250, 3, 299, 0, 17, 201];
            let sample = rows.map(|row| usize::from(row >= 200));
            let coords =
                Mat::from_fn(7, 2, |i, k| if i < 6 { locations.coords()[(rows[i], k)] } else { -1e4 });
            let sample = [&sample[..], &[1]].concat();
            let there = field(&locations, &y, &model, Some((coords.as_ref(), &sample)), dense).unwrap();
            for (i, &row) in rows.iter().enumerate() {
                let tolerance = if dense > 0 { 1e-9 } else { 0.2 * own.std_error[row] };
                assert!((there.mean[i] - own.mean[row]).abs() < tolerance, "{dense} {i}");
                assert!((there.std_error[i] - own.std_error[row]).abs() < tolerance);
            }
            // Nothing is known far away.
            assert!((there.std_error[6] - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn many_locations_have_the_field_of_few() {
        for (locations, models, bounds) in [
            // Waves: the mean is exact.
            (irregular(400, 2, 2), &[(1.3, 5.0), (4.0, 0.3), (12.0, 2.0)][..], (1e-4, 0.1)),
            (irregular(300, 1, 2), &[(5.0, 1.0)], (1e-4, 0.1)),
            (irregular(300, 3, 2), &[(2.5, 1.0)], (1e-4, 0.1)),
            (two_samples(200), &[(2.0, 0.3)], (1e-4, 0.1)),
            // Near locations.
            (irregular(400, 2, 2), &[(0.3, 0.3)], (0.1, 0.02)),
        ] {
            let y = values(&locations);
            let n = locations.len();
            // In between, and outside.
            let new = Mat::from_fn(40, locations.dim(), |i, k| locations.coords()[(i * (n / 40), k)] + 0.3);
            let sample: Vec<usize> = (0..40).map(|i| sample_numbers(&locations)[i * (n / 40)]).collect();
            for &(lengthscale, delta) in models {
                for places in [None, Some((new.as_ref(), &sample[..]))] {
                    let model = model(lengthscale, delta);
                    let exact = field(&locations, &y, &model, places, n).unwrap();
                    let many = field(&locations, &y, &model, places, 0).unwrap();
                    for i in 0..exact.mean.len() {
                        let error = (exact.mean[i] - many.mean[i]).abs() / exact.std_error[i];
                        let ratio = many.std_error[i] / exact.std_error[i] - 1.0;
                        assert!(error < bounds.0, "{n} {lengthscale} {delta}, {i}: {error}");
                        assert!(ratio.abs() < bounds.1, "{n} {lengthscale} {delta}, {i}: {ratio}");
                    }
                    // From 500 draws and from 200 others.
                    assert!((many.critical / exact.critical - 1.0).abs() < 0.1);
                }
            }
        }
    }

    /// The share of fields that lie within the band, over draws from the prior by a factor of K.
    fn held(locations: &Locations, model: &FieldModel, dense: usize) -> f64 {
        let n = locations.len();
        let points: Vec<Point> = (0..n).map(|i| point(locations, i)).collect();
        let mut k = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                let d2 = locations.squared_distance(i, j);
                k[i * n + j] = (-0.5 * d2 / (model.lengthscale * model.lengthscale)).exp();
            }
            k[i * n + i] += 1e-9;
        }
        cholesky(&mut k, n);
        let repeats = 2000;
        let mut random = SplitMix64::new(9, &[]);
        let mut truth = Mat::zeros(n, repeats);
        for draw in 0..repeats {
            let white: Vec<f64> = (0..n).map(|_| random.normal()).collect();
            (0..n).for_each(|i| truth[(i, draw)] = dot(&k[i * n..=i * n + i], &white[..=i]));
        }
        let seen = Mat::from_fn(n, repeats, |i, j| truth[(i, j)] + model.delta.sqrt() * random.normal());
        let exact;
        let waves;
        let smoother: &dyn Smoother = if dense > 0 {
            exact = Dense::new(&points, &[], model.lengthscale, model.delta).unwrap();
            &exact
        } else {
            waves = Waves::new(&points, &[], locations.dim(), model.lengthscale, model.delta).unwrap();
            &waves
        };
        let smooth = smoother.smooth(seen.as_ref(), 1e-3).unwrap();
        let of_sample = SampleMean::new(smoother, n, 1e-6).unwrap();
        // Neither standard errors nor the critical value depend on the values.
        let band = field(locations, &vec![0.0; n], model, None, dense).unwrap();
        let within = |draw: &usize| {
            let column = smooth.col_as_slice(*draw).to_vec();
            let errors = of_sample.errors(column, seen.col_as_slice(*draw), truth.col_as_slice(*draw));
            errors.iter().zip(&band.std_error).all(|(x, se)| x.abs() <= band.critical * se)
        };
        (0..repeats).filter(within).count() as f64 / repeats as f64
    }

    #[test]
    fn the_band_holds_the_whole_field_as_often_as_it_says() {
        for (lengthscale, delta) in [(1.5, 1.0), (5.0, 0.3), (5.0, 10.0)] {
            for dense in [0, DENSE] {
                let share = held(&irregular(300, 2, 3), &model(lengthscale, delta), dense);
                println!("{lengthscale} {delta} {dense}: {share}");
                // Of 0.9; the critical value alone has a standard error of 0.013 to 0.021, from its draws.
                assert!((0.85..0.95).contains(&share), "{lengthscale} {delta} {dense}: {share}");
            }
        }
    }
}
