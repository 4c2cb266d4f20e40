//! Are p-values uniform when locations are permuted? Prints P(p <= a) / a by the genes' total counts.
//!
//!     cargo run --release -p patina-core --example calibration -- TABLE [permutations] [seed]
//!
//! TABLE is `bulb`, `breast_cancer`, or a plain or gzipped table of counts with spots (named `XxY`) in rows
//! and genes in columns. Each run permutes the spots of all genes alike; the last lines count genes at 5 % FDR
//! (Benjamini-Hochberg) in the permuted runs and in the data as they are.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Random, Tester, Tissue, benjamini_hochberg, tail_table};
use patina_core::Locations;
use std::path::Path;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("bulb", String::as_str);
    let number = |k: usize, default: u64| {
        arguments.get(k).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let runs = number(1, 40);
    let mut random = Random::new(number(2, 1));

    let tissue = match name {
        "bulb" => common::bulb().expect("the bulb's counts"),
        "breast_cancer" => common::breast_cancer().expect("the section's counts"),
        path => {
            let separator = if path.contains(".tsv") { '\t' } else { ',' };
            Tissue::prepare(&common::Table::read(Path::new(path), separator), 10.0)
        }
    };
    let (n, genes) = tissue.residuals.shape();
    println!("{name}: {n} spots, {genes} genes, {runs} permutations");
    let locations = Locations::new(tissue.coords.as_ref()).expect("locations");
    let start = Instant::now();
    let tester = Tester::default_grid(&locations);
    println!("spectra and forms: {:.3} s", start.elapsed().as_secs_f64());
    let y = common::centred(&tissue.residuals);
    let start = Instant::now();
    let observed = tester.log10_p_values(&y);
    println!("all genes: {:.3} s", start.elapsed().as_secs_f64());

    let strata = tissue.strata();
    let mut permuted: Vec<Vec<f64>> = Vec::new();
    let mut with_hits = 0;
    for _ in 0..runs {
        let p = tester.log10_p_values(&random.permuted_rows(&y));
        with_hits += u64::from(benjamini_hochberg(&p, 0.05) > 0);
        permuted.push(p);
    }
    println!("{}", tail_table(&permuted, &strata));
    println!("runs with a gene at 5 % FDR: {with_hits} of {runs}");
    println!("genes at 5 % FDR as observed: {}", benjamini_hochberg(&observed, 0.05));
}
