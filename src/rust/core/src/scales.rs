//! The scales of kernels that are tried over some locations: lengthscales and periods.
//!
//! A kernel that is much narrower than the spacing of the locations is the noise itself, one that is much wider than all
//! of them a constant. Distances of 0 do not count, nor does a pair that is much closer than most.

use crate::locations::Locations;

/// The fewest scales of a grid, and the most.
const COUNT: (usize, usize) = (10, 24);

/// Periods of steps in frequency: the most of them.
const MOST_FREQUENCIES: usize = 22;

/// Lengthscales from half the [`Locations::spacing`] to twice the largest distance, log-spaced: as many as keep neighbours
/// within a factor of 2 (up to 24), and at least 10. Among 260 spots in a square these are 10 that are 1.6 apart; among a
/// million, 14.
///
/// On simulated tissues (examples/kernels.rs) 14 of them find no more than 10.
pub fn lengthscales(locations: &Locations) -> Vec<f64> {
    let (from, to) = (0.5 * locations.spacing(), 2.0 * locations.distance_range().1);
    let octaves = (to / from).log2();
    log_spaced(from, to, (octaves.ceil() as usize + 1).clamp(COUNT.0, COUNT.1))
}

/// Periods from twice the [`Locations::spacing`], the shortest that locations so far apart can show, to twice the largest
/// distance. Two functions of the same tissue look alike if their frequencies differ by less than the inverse of its
/// width, whatever they are, so the short periods have frequencies in steps of the inverse of the largest distance (in
/// larger ones where these are more than 22); the longest are a factor of 2 apart.
pub fn periods(locations: &Locations) -> Vec<f64> {
    let (from, to) = (2.0 * locations.spacing(), 2.0 * locations.distance_range().1);
    let steps = (to / (2.0 * from)).ceil().clamp(1.0, MOST_FREQUENCIES as f64) as usize;
    let mut periods: Vec<f64> = (1..=steps).rev().map(|step| from * steps as f64 / step as f64).collect();
    let longest = from * steps as f64;
    let octaves = (to / longest).log2().max(0.0).round() as i32;
    periods.extend(
        (1..=octaves).map(|octave| longest * (to / longest).powf(f64::from(octave) / f64::from(octaves))),
    );
    periods
}

/// SpatialDE's lengthscales and periods: `count` log-spaced ones from half the smallest non-zero distance to twice the
/// largest.
pub fn spatialde(locations: &Locations, count: usize) -> Vec<f64> {
    let (least, most) = locations.distance_range();
    let (from, to) = ((least / 2.0).log10(), (most * 2.0).log10());
    (0..count)
        .map(|i| {
            let t = if count > 1 { i as f64 / (count - 1) as f64 } else { 0.0 };
            10f64.powf(from + (to - from) * t)
        })
        .collect()
}

fn log_spaced(from: f64, to: f64, count: usize) -> Vec<f64> {
    let ratio = to / from;
    (0..count).map(|i| from * ratio.powf(i as f64 / (count - 1) as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{irregular, scattered};
    use faer::Mat;

    fn lattice(side: usize) -> Locations {
        let x =
            Mat::from_fn(side * side, 2, |i, k| if k == 0 { (i % side) as f64 } else { (i / side) as f64 });
        Locations::new(x.as_ref()).unwrap()
    }

    fn check(grid: &[f64], from: f64, to: f64, most: f64) {
        assert!((grid[0] / from - 1.0).abs() < 1e-12, "{} {from}", grid[0]);
        assert!((grid[grid.len() - 1] / to - 1.0).abs() < 1e-12, "{} {to}", grid[grid.len() - 1]);
        for pair in grid.windows(2) {
            assert!(pair[1] > pair[0] && pair[1] <= most * pair[0] * (1.0 + 1e-12), "{pair:?}");
        }
    }

    #[test]
    fn lengthscales_reach_from_half_the_spacing_to_twice_the_largest_distance() {
        for (side, count) in [(16, 10), (60, 10), (300, 12)] {
            let grid = lengthscales(&lattice(side));
            check(&grid, 0.5, 2.0 * 2f64.sqrt() * (side - 1) as f64, 2.0);
            assert_eq!(grid.len(), count);
        }
        for locations in
            [scattered(3000, 2, 1), scattered(500, 3, 2), scattered(40, 1, 3), irregular(900, 2, 4)]
        {
            let grid = lengthscales(&locations);
            check(&grid, 0.5 * locations.spacing(), 2.0 * locations.distance_range().1, 2.0);
            assert!((10..=14).contains(&grid.len()));
        }
    }

    #[test]
    fn close_pairs_and_copies_do_not_move_the_lengthscales() {
        let lattice = lattice(16);
        let expected = lengthscales(&lattice);
        for shift in [0.0, 1e-6] {
            // All spots but one twice, or one of them.
            for copies in [1, 255] {
                let x = Mat::from_fn(256 + copies, 2, |i, k| {
                    lattice.coords()[(i % 256, k)] + if i < 256 { 0.0 } else { shift }
                });
                let grid = lengthscales(&Locations::new(x.as_ref()).unwrap());
                if shift == 0.0 || copies == 1 {
                    for (own, other) in grid.iter().zip(&expected) {
                        assert!((own / other - 1.0).abs() < 1e-6);
                    }
                } else {
                    // The spacing is that of the pairs: still all the way to the largest distance.
                    assert!(grid[0] < 1e-6 && (grid[grid.len() - 1] / expected[9] - 1.0).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn five_locations_on_a_line_have_grids() {
        let x = Mat::from_fn(5, 2, |i, _| i as f64);
        let locations = Locations::new(x.as_ref()).unwrap();
        check(&lengthscales(&locations), 0.5 * 2f64.sqrt(), 8.0 * 2f64.sqrt(), 2.0);
        check(&periods(&locations), 2.0 * 2f64.sqrt(), 8.0 * 2f64.sqrt(), 2.0);
        assert_eq!(spatialde(&locations, 1).len(), 1);
    }

    #[test]
    fn periods_miss_no_frequency() {
        for locations in [lattice(8), lattice(16), lattice(32), lattice(100), scattered(300, 1, 5)] {
            let (spacing, most) = (locations.spacing(), locations.distance_range().1);
            let periods = periods(&locations);
            check(&periods, 2.0 * spacing, 2.0 * most, 2.0 + 0.5);
            let step = (1.0 / most).max(0.5 / spacing / MOST_FREQUENCIES as f64);
            for pair in periods.windows(2) {
                assert!(1.0 / pair[0] - 1.0 / pair[1] <= step * (1.0 + 1e-9), "{pair:?} {step}");
            }
        }
    }

    #[test]
    fn several_samples_share_a_grid() {
        let one = lattice(16);
        let x = Mat::from_fn(512, 2, |i, k| one.coords()[(i % 256, k)] + if i < 256 { 0.0 } else { 1e4 });
        let two = Locations::with_samples(x.as_ref(), &[256, 256]).unwrap();
        assert_eq!(lengthscales(&one), lengthscales(&two));
    }
}
