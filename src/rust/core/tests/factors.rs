//! Spatial factors and domains: what they find again, and that threads change nothing.

use faer::Mat;
use patina_core::Locations;
use patina_core::domains::find_domains;
use patina_core::factors::{Factors, Kernel, Settings, find_factors, predict};
use patina_core::random::SplitMix64;

const SIDE: usize = 18;
const GENES: usize = 60;

/// Two programs over a square lattice, a gradient and a disc; each gene follows one, some both.
fn tissue() -> (Locations, Mat<f64>, Mat<f64>) {
    let n = SIDE * SIDE;
    let mut random = SplitMix64::new(5, &[]);
    let coords = Mat::from_fn(n, 2, |i, k| [i % SIDE, i / SIDE][k] as f64 + 0.01 * random.normal());
    let centre = SIDE as f64 / 2.0;
    let programs = Mat::from_fn(n, 2, |i, k| {
        let (x, y) = (coords[(i, 0)] - centre, coords[(i, 1)] - centre);
        if k == 0 { x / 5.0 } else { 2.0 * f64::from(u8::from(x.hypot(y) < 5.0)) - 0.5 }
    });
    let y = Mat::from_fn(n, GENES, |i, g| {
        let (a, b) = [(1.0, 0.0), (0.0, 1.0), (0.7, -0.7), (0.0, 0.0)][g % 4];
        a * programs[(i, 0)] + b * programs[(i, 1)] + 1.5 * random.normal()
    });
    (Locations::new(coords.as_ref()).unwrap(), programs, y)
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (a, b) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        xy += (x - a) * (y - b);
        xx += (x - a) * (x - a);
        yy += (y - b) * (y - b);
    }
    xy / (xx * yy).sqrt()
}

fn fit(locations: &Locations, y: &Mat<f64>, n_factors: Option<usize>) -> Factors {
    let settings = Settings { n_factors, most: 6, ..Settings::default() };
    find_factors(locations, y.as_ref(), None, &settings).unwrap()
}

#[test]
fn programs_are_found_again_and_their_number() {
    let (locations, programs, y) = tissue();
    let found = fit(&locations, &y, None);
    assert!((2..=3).contains(&found.values.ncols()), "{:?}", found.held_out);
    for k in 0..2 {
        let best = (0..found.values.ncols())
            .map(|j| correlation(programs.col_as_slice(k), found.values.col_as_slice(j)).abs())
            .fold(0.0, f64::max);
        // The best combination of the factors has .98 and .95: a third of the genes are the same mixture of both
        // programs, which no rotation can tell from a program.
        assert!(best > 0.9, "program {k}: {best}");
    }
    // Variances are 1, and the largest loading of each factor is positive.
    for k in 0..found.values.ncols() {
        let column = found.values.col_as_slice(k);
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / column.len() as f64;
        assert!((variance - 1.0).abs() < 1e-9);
        let largest = found
            .loadings
            .col_as_slice(k)
            .iter()
            .fold(0.0_f64, |a, &x| if x.abs() > a.abs() { x } else { a });
        assert!(largest > 0.0);
    }
}

/// The first program grows along x, and a factor of two halves side by side goes on from one to the other.
#[test]
fn halves_of_a_tissue_have_the_means_that_they_have_in_it() {
    let (locations, programs, y) = tissue();
    let n = locations.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| programs[(a, 0)].total_cmp(&programs[(b, 0)]));
    let sizes = [n / 3, n - n / 3];
    let coords = Mat::from_fn(n, 2, |i, k| locations.coords()[(order[i], k)]);
    let halves = Locations::with_samples(coords.as_ref(), &sizes).unwrap();
    let rows = halves.samples();
    let mean = |rows: &std::ops::Range<usize>, g: usize| {
        rows.clone().map(|i| y[(order[i], g)]).sum::<f64>() / rows.len() as f64
    };
    // Genes differ by what is no program too, as sections do.
    let means = Mat::from_fn(2, GENES, |s, g| mean(&rows[s], g) + 0.1 * ((7 * g + 3 * s) as f64).sin());
    let own = |i: usize| usize::from(i >= sizes[0]);
    let centred = Mat::from_fn(n, GENES, |i, g| y[(order[i], g)] - mean(&rows[own(i)], g));
    let settings = Settings { n_factors: Some(2), most: 6, ..Settings::default() };
    let found = |means| find_factors(&halves, centred.as_ref(), means, &settings).unwrap();
    let (moved, still) = (found(Some(means.as_ref())), found(None));
    let program: Vec<f64> = order.iter().map(|&i| programs[(i, 0)]).collect();
    let best = |found: &Factors| {
        (0..2).map(|j| correlation(&program, found.values.col_as_slice(j)).abs()).fold(0.0, f64::max)
    };
    assert!(best(&moved) > 0.95 && best(&still) < 0.9, "{} {}", best(&moved), best(&still));
    // Nothing else differs.
    for j in 0..2 {
        for i in 0..n {
            let shift = moved.sample_means[(own(i), j)];
            assert!((moved.values[(i, j)] - still.values[(i, j)] - shift).abs() < 1e-12);
            assert!((moved.totals[(i, j)] - still.totals[(i, j)] - shift).abs() < 1e-12);
        }
        assert_eq!(still.sample_means[(0, j)], 0.0);
    }
    assert!(find_factors(&halves, centred.as_ref(), Some(means.subrows(0, 1)), &settings).is_err());
}

#[test]
fn noise_supports_no_factor() {
    let (locations, _, y) = tissue();
    let mut random = SplitMix64::new(9, &[]);
    let noise = Mat::from_fn(y.nrows(), y.ncols(), |_, _| random.normal());
    let found = fit(&locations, &noise, None);
    assert_eq!((found.supported, found.values.ncols()), (Some(false), 1));
    assert_eq!(found.held_out[0].r_squared, 0.0);
    assert_eq!(fit(&locations, &noise, Some(2)).supported, None);
}

/// Genes that few locations have are constant where those are left out.
#[test]
fn rare_genes_do_not_keep_the_number_from_being_chosen() {
    let (locations, _, y) = tissue();
    let rare = Mat::from_fn(y.nrows(), y.ncols() + 12, |i, g| {
        if g < y.ncols() { y[(i, g)] } else { f64::from(u8::from(i == 17 * (g - y.ncols()))) }
    });
    let found = fit(&locations, &rare, None);
    assert_eq!((found.supported, found.held_out.len()), (Some(true), 7));
    assert!((2..=3).contains(&found.values.ncols()), "{:?}", found.held_out);
}

#[test]
fn a_domain_is_found_again() {
    let (locations, programs, y) = tissue();
    let found = fit(&locations, &y, Some(2));
    let domains = find_domains(&locations, found.values.as_ref(), found.totals.as_ref(), &[2, 3, 4]).unwrap();
    assert_eq!(domains.criterion.len(), 3);
    let four = find_domains(&locations, found.values.as_ref(), found.totals.as_ref(), &[4]).unwrap();
    // The disc is a domain, or several whole ones.
    for k in 0..4 {
        let inside = (0..locations.len()).filter(|&i| four.labels[i] == k && programs[(i, 1)] > 1.0).count();
        let all = four.labels.iter().filter(|&&l| l == k).count();
        let share = inside as f64 / all as f64;
        assert!(!(0.1..=0.9).contains(&share), "domain {k}: {share}");
    }
    for i in 0..locations.len() {
        let sum: f64 = (0..4).map(|k| four.probabilities[(i, k)]).sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}

#[test]
fn threads_change_nothing() {
    let (locations, _, y) = tissue();
    let all = || {
        let found = fit(&locations, &y, None);
        let domains = find_domains(&locations, found.values.as_ref(), found.totals.as_ref(), &[3]).unwrap();
        (format!("{found:?}"), format!("{domains:?}"))
    };
    let [one, three] = [1, 3]
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all));
    assert!(one == three);
}

#[test]
fn predictions_at_the_locations_are_near_the_factors_and_far_away_nothing() {
    let (locations, _, y) = tissue();
    let found = fit(&locations, &y, Some(2));
    let kernels: Vec<Kernel> = found
        .summaries
        .iter()
        .map(|s| Kernel { lengthscale: s.lengthscale, delta: s.delta, variance: s.prior })
        .collect();
    let n = locations.len();
    let new = Mat::from_fn(n + 1, 2, |i, k| if i < n { locations.coords()[(i, k)] } else { 1e4 });
    let there = predict(&locations, found.seen.as_ref(), &kernels, new.as_ref(), &vec![0; n + 1]).unwrap();
    for (k, kernel) in kernels.iter().enumerate().take(2) {
        let own: Vec<f64> = (0..n).map(|i| there.means[(i, k)]).collect();
        assert!(correlation(&own, found.values.col_as_slice(k)) > 0.98);
        assert!(there.means[(n, k)].abs() < 1e-6);
        assert!((there.std_errors[(n, k)] - kernel.variance.sqrt()).abs() < 1e-9);
    }
}

/// A square of so many locations on each side, row by row.
fn square(side: usize) -> Locations {
    let coords =
        Mat::from_fn(side * side, 2, |i, k| if k == 0 { (i % side) as f64 } else { (i / side) as f64 });
    Locations::new(coords.as_ref()).unwrap()
}

#[test]
fn kinds_of_locations_are_no_domains() {
    // Two areas whose locations are of two kinds, in other shares: a kind differs more than an area does.
    let n = 400;
    let mut random = SplitMix64::new(5, &[]);
    let locations = square(20);
    let area = |i: usize| f64::from(u8::from(i % 20 > 9));
    let kind: Vec<f64> =
        (0..n).map(|i| f64::from(u8::from(random.uniform() < 0.3 + 0.4 * area(i)))).collect();
    let values =
        Mat::from_fn(n, 2, |i, k| (if k == 0 { 3.0 * kind[i] } else { area(i) }) + 0.2 * random.normal());
    let domains = find_domains(&locations, values.as_ref(), values.as_ref(), &[2]).unwrap();
    let inside = (0..n).filter(|&i| domains.labels[i] as f64 == area(i)).count();
    assert!(inside.max(n - inside) > 380, "{inside}");
}

/// A square of three bands.
fn bands(odd: f64) -> (Locations, Vec<usize>, Mat<f64>) {
    let n = 400;
    let mut random = SplitMix64::new(6, &[]);
    let band: Vec<usize> = (0..n).map(|i| (i % 20) / 7).collect();
    let mut values = Mat::from_fn(n, 3, |i, k| if band[i] == k { 3.0 } else { 0.0 } + random.normal());
    for i in [4, 199] {
        (0..3).for_each(|k| values[(i, k)] += odd);
    }
    (square(20), band, values)
}

#[test]
fn odd_locations_are_no_domain() {
    for odd in [0.0, 10.0, 30.0] {
        let (locations, band, values) = bands(odd);
        let domains = find_domains(&locations, values.as_ref(), values.as_ref(), &[3]).unwrap();
        for k in 0..3 {
            let inside = (0..400).filter(|&i| domains.labels[i] == k);
            let most = (0..3).map(|b| inside.clone().filter(|&i| band[i] == b).count()).max().unwrap();
            assert!(most > 110 && most * 20 > inside.count() * 19, "{odd}, domain {k}: {most}");
        }
    }
}

#[test]
fn domains_that_differ_in_weak_axes_are_found_beside_a_strong_one_that_does_not() {
    // The places of five bands on a circle, beside an axis of noise that is far wider.
    let (side, n) = (50, 2500);
    let locations = square(side);
    let mut random = SplitMix64::new(7, &[]);
    let band = |i: usize| (i % side) / 10;
    let values = Mat::from_fn(n, 3, |i, k| {
        let angle = 0.4 * std::f64::consts::TAU * band(i) as f64;
        [0.0, angle.cos(), angle.sin()][k] + [10.0, 0.4, 0.4][k] * random.normal()
    });
    let domains = find_domains(&locations, values.as_ref(), values.as_ref(), &[5]).unwrap();
    let most = |k: usize| {
        let inside = |b: usize| (0..n).filter(|&i| domains.labels[i] == k && band(i) == b).count();
        (0..5).map(inside).max().unwrap()
    };
    let found: usize = (0..5).map(most).sum();
    assert!(found > 2400, "{found}");
}

#[test]
fn smooth_fields_within_domains_are_no_domains() {
    // Two halves, and a field that is as strong within them as they differ.
    let n = 400;
    let mut random = SplitMix64::new(7, &[]);
    let locations = square(20);
    let half = |i: usize| f64::from(u8::from(i % 20 > 9));
    let values = Mat::from_fn(n, 2, |i, k| {
        let smooth = 2.5 * ((i / 20) as f64 / 5.0).sin();
        (if k == 0 { 3.0 * half(i) } else { smooth }) + 0.3 * random.normal()
    });
    let domains = find_domains(&locations, values.as_ref(), values.as_ref(), &[2]).unwrap();
    let same = (0..n).filter(|&i| domains.labels[i] as f64 == half(i)).count();
    assert!(same.max(n - same) == n, "{same}");
}

#[test]
fn of_many_locations_some_find_the_domains_of_all() {
    let side = 110;
    let n = side * side;
    let mut random = SplitMix64::new(8, &[]);
    let place = |i: usize| [(i % side) as f64, (i / side) as f64];
    let coords = Mat::from_fn(n, 2, |i, k| place(i)[k] + 0.01 * random.normal());
    let band = |i: usize| (place(i)[0] / side as f64 * 4.0) as usize;
    let values = Mat::from_fn(n, 3, |i, k| f64::from(u8::from(band(i) == k)) + 0.5 * random.normal());
    // Some samples have fewer locations than are left out between two that find the start.
    let mut sizes = vec![1; 100];
    sizes.push(n - 100);
    for sizes in [vec![n], sizes] {
        let locations = Locations::with_samples(coords.as_ref(), &sizes).unwrap();
        let domains = find_domains(&locations, values.as_ref(), values.as_ref(), &[3, 4]).unwrap();
        for k in 0..4 {
            let own: Vec<usize> = (0..n).filter(|&i| domains.labels[i] == k).collect();
            let most = (0..4).map(|b| own.iter().filter(|&&i| band(i) == b).count()).max().unwrap();
            assert!(most as f64 > 0.98 * own.len() as f64, "{k}: {most} of {}", own.len());
        }
    }
}

/// Of two smooth halves and of types of cells anywhere, the halves are the domains where types are most of what locations
/// have of their own, and locations are what they are in all where they have little.
#[test]
fn what_locations_have_of_their_own_counts_by_how_much_of_it_there_is() {
    let (locations, _, _) = tissue();
    let n = locations.len();
    let mut random = SplitMix64::new(5, &[]);
    let half = |i: usize| f64::from(u8::from(locations.coords()[(i, 0)] > 7.5));
    let smooth = Mat::from_fn(n, 2, |i, k| if k == 0 { half(i) } else { 0.0 } + 0.05 * random.normal());
    for (sd, share) in [(3.0, 0.1), (0.01, 0.4)] {
        let total = Mat::from_fn(n, 2, |i, k| smooth[(i, k)] + sd * random.normal());
        let found = find_domains(&locations, smooth.as_ref(), total.as_ref(), &[2]).unwrap();
        assert_eq!(found.share, share);
        let same = (0..n).filter(|&i| found.labels[i] as f64 == half(i)).count();
        assert!(same.max(n - same) as f64 > 0.95 * n as f64, "{sd}: {same} of {n}");
    }
    let wide = Mat::from_fn(n, 3, |i, k| smooth[(i, k.min(1))]);
    assert!(find_domains(&locations, smooth.as_ref(), wide.as_ref(), &[2]).is_err());
}

#[test]
fn the_order_of_genes_changes_nothing() {
    let (locations, _, y) = tissue();
    let plain = fit(&locations, &y, None);
    let turned = Mat::from_fn(y.nrows(), GENES, |i, g| y[(i, (7 * g + 3) % GENES)]);
    let other = fit(&locations, &turned, None);
    assert_eq!(other.values.ncols(), plain.values.ncols());
    for k in 0..plain.values.ncols() {
        for g in 0..GENES {
            let difference = other.loadings[(g, k)] - plain.loadings[((7 * g + 3) % GENES, k)];
            assert!(difference.abs() < 1e-8, "{k}, {g}: {difference:e}");
        }
    }
}

#[test]
fn values_have_any_unit() {
    let (locations, _, y) = tissue();
    let found = fit(&locations, &y, Some(2));
    let plain = find_domains(&locations, found.values.as_ref(), found.totals.as_ref(), &[3]).unwrap();
    for unit in [2f64.powi(700), 2f64.powi(-700)] {
        let scaled = |m: &Mat<f64>| Mat::from_fn(m.nrows(), m.ncols(), |i, k| unit * m[(i, k)]);
        let (smooth, total) = (scaled(&found.values), scaled(&found.totals));
        let other = find_domains(&locations, smooth.as_ref(), total.as_ref(), &[3]).unwrap();
        assert!(other.labels == plain.labels && other.beta == plain.beta);
    }
}
