//! Which kernels, and which of their tails, find which patterns? The power of several grids on simulated tissues.
//!
//!     cargo run --release -p patina-studies --example kernels -- [spots] [replicates] [seed]
//!
//! Tissues: hexagonal spots, each moved a little; a square lattice; scattered points. Patterns: those of
//! examples/power.rs, and some that neighbours do not share: stripes of 2 to 6 spacings, a checkerboard, repelling
//! neighbours. Prints a table (bench/results/kernels.csv has 260 spots, and 1,000 hexagonal ones): for each layout and
//! design P(p <= a)/a of genes without pattern at .05, .01 and .001, the mean power over smooth and over fine patterns,
//! and the power for each pattern: the share of genes whose p-value is at most the null genes' quantile at 1e-3, so that
//! a liberal design gains nothing.

#[path = "../../core/tests/common/mod.rs"]
mod common;
mod tissues;

use common::{Random, Tester};
use faer::Mat;
use patina_core::null::{self, GeneMoments};
use patina_core::{Kernel, Locations, NullForms, scales};
use rayon::prelude::*;
use tissues::{FINE, Layout, PATTERNS, fine_shape, gene, shape};

const TOTALS: [f64; 4] = [10.0, 30.0, 100.0, 1000.0];
const STRENGTHS: [f64; 3] = [5.0, 7.0, 10.0];
/// How much stronger the fine patterns are.
const FINE_STRENGTH: f64 = 3.0;
const LEVEL: f64 = 1e-3;
const LEVELS: [f64; 3] = [0.05, 0.01, 0.001];

/// Kernels of a design.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kernels {
    /// SE over SpatialDE's grid, with its periods or without.
    SpatialDe { periods: bool },
    /// SE from half the spacing: so many, or the default.
    Spacing(Option<usize>),
    /// The default lengthscales and periods.
    Periods,
    /// The default periods alone.
    OnlyPeriods,
}

/// What is done with the lower tails of narrow kernels' scores.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lower {
    No,
    /// What the package does.
    Default,
    /// So many of them count on both sides: twice the smaller of both tails.
    TwoSided(usize),
    /// Those of so many share this weight.
    Added(usize, f64),
}

const DESIGNS: [(&str, Kernels, Lower); 14] = [
    ("SE, SpatialDE's grid", Kernels::SpatialDe { periods: false }, Lower::No),
    ("SE", Kernels::Spacing(None), Lower::No),
    ("14 SE", Kernels::Spacing(Some(14)), Lower::No),
    ("SE, default tails", Kernels::Spacing(None), Lower::Default),
    ("SE, 1 two-sided", Kernels::Spacing(None), Lower::TwoSided(1)),
    ("SE, 3 two-sided", Kernels::Spacing(None), Lower::TwoSided(3)),
    ("SE, lower of 1 with 0.05", Kernels::Spacing(None), Lower::Added(1, 0.05)),
    ("SE, lower of 2 with 0.05", Kernels::Spacing(None), Lower::Added(2, 0.05)),
    ("SE, lower of 2 with 0.1", Kernels::Spacing(None), Lower::Added(2, 0.1)),
    ("SE, lower of 2 with 0.2", Kernels::Spacing(None), Lower::Added(2, 0.2)),
    ("SE, lower of 4 with 0.1", Kernels::Spacing(None), Lower::Added(4, 0.1)),
    ("SE and PER, SpatialDE's grids", Kernels::SpatialDe { periods: true }, Lower::No),
    ("SE and PER", Kernels::Periods, Lower::Default),
    ("PER", Kernels::OnlyPeriods, Lower::Default),
];

impl Kernels {
    fn make(self, locations: &Locations) -> Vec<Kernel> {
        let se = |grid: Vec<f64>| grid.into_iter().map(Kernel::squared_exponential).collect::<Vec<_>>();
        let per = |grid: Vec<f64>| grid.into_iter().map(Kernel::cosine).collect::<Vec<_>>();
        let kernels = match self {
            Self::SpatialDe { periods } => {
                let own = scales::spatialde(locations, 10);
                if periods { [se(own.clone()), per(own)].concat() } else { se(own) }
            }
            Self::Spacing(None) => se(scales::lengthscales(locations)),
            Self::Spacing(Some(count)) => {
                let from = 0.5 * locations.spacing();
                let ratio = 2.0 * locations.distance_range().1 / from;
                se((0..count).map(|i| from * ratio.powf(i as f64 / (count - 1) as f64)).collect())
            }
            Self::Periods => [se(scales::lengthscales(locations)), per(scales::periods(locations))].concat(),
            Self::OnlyPeriods => per(scales::periods(locations)),
        };
        kernels.into_iter().map(|kernel| kernel.expect("a kernel")).collect()
    }
}

impl Lower {
    /// The combined p-value of a gene: logs.
    fn p_value(self, forms: &NullForms, q: &[f64], gene: &GeneMoments) -> f64 {
        let each = forms.deltas().len();
        let mut log_p = forms.log_p_values(q, gene);
        let lower = |k: usize| forms.log_lower_p_value(k * each, q[k * each], gene);
        match self {
            Self::No => null::combine(&log_p, forms.weights()),
            Self::Default => forms.p_value(q, gene).log10_pval * std::f64::consts::LN_10,
            Self::TwoSided(count) => {
                for k in 0..count {
                    log_p[k * each] = log_p[k * each].min(lower(k)) + 2.0_f64.ln();
                }
                null::combine(&log_p, forms.weights())
            }
            Self::Added(count, share) => {
                let others: Vec<_> = (0..count).map(|k| (lower(k), share / count as f64)).collect();
                null::combine_with(&log_p, forms.weights(), &others)
            }
        }
    }
}

/// All designs' log p-values of each gene.
struct Designs {
    testers: Vec<(Kernels, Tester)>,
}

impl Designs {
    fn new(locations: &Locations) -> Self {
        let mut testers: Vec<(Kernels, Tester)> = Vec::new();
        for (_, kernels, _) in DESIGNS {
            if testers.iter().all(|(known, _)| *known != kernels) {
                testers.push((kernels, Tester::new(&kernels.make(locations), locations, &null::DELTAS)));
            }
        }
        Self { testers }
    }

    /// Designs × genes.
    fn log_p(&self, y: &Mat<f64>) -> Vec<Vec<f64>> {
        let mut all = vec![Vec::new(); DESIGNS.len()];
        for (kernels, tester) in &self.testers {
            let designs: Vec<usize> = (0..DESIGNS.len()).filter(|&d| DESIGNS[d].1 == *kernels).collect();
            let found = tester.map_genes(y, |_, q, gene| {
                let p_value = |&d: &usize| DESIGNS[d].2.p_value(&tester.forms, q, gene);
                designs.iter().map(p_value).collect::<Vec<f64>>()
            });
            for (place, &design) in designs.iter().enumerate() {
                all[design] = found.iter().map(|p| p[place]).collect();
            }
        }
        all
    }
}

fn main() {
    let number = |k: usize, default: u64| {
        std::env::args().nth(k).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (n, replicates) = (number(1, 260) as usize, number(2, 20) as usize);
    let seed = number(3, 1);
    let columns = PATTERNS.iter().chain(&FINE).map(|pattern| pattern.replace(' ', "_"));
    println!(
        "spots,layout,design,level_0.05,level_0.01,level_0.001,smooth,fine,{}",
        columns.collect::<Vec<_>>().join(",")
    );
    for layout in Layout::ALL {
        run(layout, n, replicates, seed);
    }
}

fn run(layout: Layout, n: usize, replicates: usize, seed: u64) {
    let coords = layout.coords(n, &mut Random::new(seed));
    let n = coords.nrows();
    let locations = Locations::new(coords.as_ref()).expect("locations");
    let designs = Designs::new(&locations);
    let patterns = PATTERNS.len() + FINE.len();

    let simulate = |pattern: usize, copies: usize| -> Mat<f64> {
        let columns: Vec<Vec<f64>> = (0..copies)
            .into_par_iter()
            .map(|copy| {
                let id = (pattern * 1_000_000 + copy) as u64;
                let mut random = Random::new(seed ^ id.wrapping_mul(0x2545_f491_4f6c_dd1d));
                let shape = if pattern < PATTERNS.len() {
                    shape(pattern, &coords, &mut random)
                } else if pattern < patterns {
                    fine_shape(pattern - PATTERNS.len(), &coords, layout, &mut random)
                } else {
                    vec![0.0; n]
                };
                let (total, strength) = (copy % TOTALS.len(), copy / TOTALS.len() % STRENGTHS.len());
                let more = if pattern < PATTERNS.len() { 1.0 } else { FINE_STRENGTH };
                gene(&shape, TOTALS[total], more * STRENGTHS[strength], &mut random)
            })
            .collect();
        Mat::from_fn(n, copies, |i, g| columns[g][i])
    };
    let each = replicates * TOTALS.len() * STRENGTHS.len();
    let mut null = designs.log_p(&simulate(patterns, 100 * each));
    let level = |p: &[f64], a: f64| p.iter().filter(|p| **p <= a.ln()).count() as f64 / p.len() as f64 / a;
    let levels: Vec<[f64; 3]> = null.iter().map(|p| LEVELS.map(|a| level(p, a))).collect();
    let bounds: Vec<f64> = null
        .iter_mut()
        .map(|p| {
            let place = (LEVEL * p.len() as f64) as usize;
            *p.select_nth_unstable_by(place, f64::total_cmp).1
        })
        .collect();
    let power: Vec<Vec<f64>> = (0..patterns)
        .map(|pattern| {
            let log_p = designs.log_p(&simulate(pattern, each));
            let found = |(p, bound): (&Vec<f64>, &f64)| {
                p.iter().filter(|p| *p <= bound).count() as f64 / p.len() as f64
            };
            log_p.iter().zip(&bounds).map(found).collect()
        })
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for (d, (name, ..)) in DESIGNS.iter().enumerate() {
        let by_pattern: Vec<f64> = power.iter().map(|power| power[d]).collect();
        let (smooth, fine) = by_pattern.split_at(PATTERNS.len());
        let values = levels[d]
            .iter()
            .chain([mean(smooth), mean(fine)].iter())
            .chain(&by_pattern)
            .map(|v| format!("{v:.3}"))
            .collect::<Vec<_>>();
        println!("{n},{layout:?},\"{name}\",{}", values.join(","));
    }
}
