//! The real tissues and reference results that tests compare with.
//!
//! They are not part of the package: `PATINA_DATA` and `PATINA_REFERENCE` name their folders, else a
//! folder `shared` beside the package (or beside one of its parents) is looked for. A test skips itself
//! where they are missing, but fails where the environment variable `CI` is set.
#![allow(dead_code)]

use faer::Mat;
use flate2::read::GzDecoder;
use patina_core::model::{Block, Model, View};
use patina_core::null::GeneMoments;
use patina_core::random::SplitMix64;
use patina_core::spectral::Spectral;
use patina_core::{Kernel, Locations, NullForms, Spectrum, scales};
use rayon::prelude::*;
use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A tissue, prepared as SpatialDE's own scripts prepare it.
pub struct Tissue {
    /// Names of the kept genes (at least three counts over all spots).
    pub genes: Vec<String>,
    /// Names of the kept spots.
    pub spots: Vec<String>,
    /// Spots × 2.
    pub coords: Mat<f64>,
    /// Counts, spots × genes.
    pub counts: Mat<f64>,
    /// Total count of each spot over the kept genes.
    pub totals: Vec<f64>,
    /// Stabilised counts with log(total) regressed out, spots × genes; not centred.
    pub residuals: Mat<f64>,
}

impl Tissue {
    /// The tissue of a table of counts, with spots named `XxY` in rows; keeps spots with more than
    /// `least_total` counts.
    pub fn prepare(table: &Table, least_total: f64) -> Self {
        let sums: Vec<f64> = table.columns.iter().map(|column| column.iter().sum()).collect();
        let kept: Vec<usize> = (0..sums.len()).filter(|&g| sums[g] >= 3.0).collect();
        let all_totals: Vec<f64> =
            (0..table.rows.len()).map(|i| kept.iter().map(|&g| table.columns[g][i]).sum()).collect();
        let spots: Vec<usize> = (0..table.rows.len()).filter(|&i| all_totals[i] > least_total).collect();

        let counts = Mat::from_fn(spots.len(), kept.len(), |i, g| table.columns[kept[g]][spots[i]]);
        let totals: Vec<f64> = spots.iter().map(|&i| all_totals[i]).collect();
        let coords: Vec<Vec<f64>> = spots
            .iter()
            .map(|&i| table.rows[i].split('x').map(|v| v.parse().expect("a spot named XxY")).collect())
            .collect();
        Self {
            genes: kept.iter().map(|&g| table.names[g].clone()).collect(),
            spots: spots.iter().map(|&i| table.rows[i].clone()).collect(),
            coords: Mat::from_fn(spots.len(), 2, |i, k| coords[i][k]),
            residuals: anscombe(&counts, &totals),
            counts,
            totals,
        }
    }

    /// Index of the gene of that name.
    pub fn gene(&self, name: &str) -> Option<usize> {
        self.genes.iter().position(|gene| gene == name)
    }
}

/// The mouse olfactory bulb, replicate 11: 260 spots × 14,859 genes.
pub fn bulb() -> Option<Tissue> {
    let table = Table::read(&data("Rep11_MOB_0.csv.gz")?, ',');
    Some(Tissue::prepare(&table, 10.0))
}

/// The breast cancer section, layer 2: 250 spots × 12,856 genes.
pub fn breast_cancer() -> Option<Tissue> {
    let table = Table::read(&data("Layer2_BC_count_matrix-1.tsv.gz")?, '\t');
    Some(Tissue::prepare(&table, 5.0))
}

/// A table of the small tissue that the R tests compare with too; `tests/testthat/reference/spatialde.py` made all of them.
pub fn own_reference(name: &str) -> Table {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/testthat/reference");
    Table::read(&folder.join(format!("spatialde_{name}.csv")), ',')
}

/// That tissue: 100 spots × 150 genes.
pub fn own_tissue() -> Tissue {
    let (counts, info) = (own_reference("counts"), own_reference("info"));
    let counts = Mat::from_fn(info.rows.len(), counts.rows.len(), |i, g| counts.columns[i][g]);
    let totals = info.column("total_counts").to_vec();
    Tissue {
        genes: own_reference("counts").rows,
        coords: Mat::from_fn(info.rows.len(), 2, |i, k| info.column(["x", "y"][k])[i]),
        spots: info.rows,
        residuals: anscombe(&counts, &totals),
        counts,
        totals,
    }
}

/// `log(x + 1/(2 phi))`, then the slope on log(total), fitted with an intercept, is taken out.
///
/// phi is the least squares fit of `var = mu + phi mu²` over genes.
pub fn anscombe(counts: &Mat<f64>, totals: &[f64]) -> Mat<f64> {
    let (n, genes) = counts.shape();
    let (mut top, mut bottom) = (0.0, 0.0);
    for g in 0..genes {
        let column = counts.col(g);
        let mean = column.iter().sum::<f64>() / n as f64;
        let var = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1) as f64;
        top += mean * mean * (var - mean);
        bottom += mean.powi(4);
    }
    let shift = 0.5 * bottom / top;
    let depth: Vec<f64> = totals.iter().map(|t| t.ln()).collect();
    let centre = depth.iter().sum::<f64>() / n as f64;
    let spread: f64 = depth.iter().map(|d| (d - centre) * (d - centre)).sum();
    let mut out = Mat::from_fn(n, genes, |i, g| (counts[(i, g)] + shift).ln());
    for g in 0..genes {
        let slope = (0..n).map(|i| out[(i, g)] * (depth[i] - centre)).sum::<f64>() / spread;
        for i in 0..n {
            out[(i, g)] -= slope * depth[i];
        }
    }
    out
}

/// Takes each column's mean away.
pub fn centred(y: &Mat<f64>) -> Mat<f64> {
    let n = y.nrows();
    let means: Vec<f64> = (0..y.ncols()).map(|g| y.col(g).iter().sum::<f64>() / n as f64).collect();
    Mat::from_fn(n, y.ncols(), |i, g| y[(i, g)] - means[g])
}

/// A table of a reference file: text columns are NaN in `columns` and kept in `text`.
pub struct Table {
    /// Names of the columns, without the first if it holds the names of the rows.
    pub names: Vec<String>,
    /// The first column.
    pub rows: Vec<String>,
    /// The columns as numbers.
    pub columns: Vec<Vec<f64>>,
    /// Columns that are not numbers, by name.
    pub text: HashMap<String, Vec<String>>,
}

impl Table {
    /// Reads a plain or gzipped table without quotes whose first line has the names of its columns.
    ///
    /// Where that line starts with a separator, the first column holds the names of the rows.
    pub fn read(path: &Path, separator: char) -> Self {
        let mut text = String::new();
        let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if path.extension().is_some_and(|e| e == "gz") {
            GzDecoder::new(file).read_to_string(&mut text).expect("gzipped text");
        } else {
            file.read_to_string(&mut text).expect("text");
        }
        let mut lines = text.lines();
        let mut names: Vec<String> =
            lines.next().expect("a header").split(separator).map(str::to_string).collect();
        let unnamed_rows = names[0].is_empty();
        if unnamed_rows {
            names.remove(0);
        }
        let mut table =
            Self { columns: vec![Vec::new(); names.len()], names, rows: Vec::new(), text: HashMap::new() };
        for line in lines.filter(|line| !line.is_empty()) {
            let mut cells = line.split(separator).peekable();
            table.rows.push(cells.peek().expect("a first cell").to_string());
            if unnamed_rows {
                cells.next();
            }
            for (column, cell) in cells.enumerate() {
                let value = cell.parse().unwrap_or_else(|_| {
                    table.text.entry(table.names[column].clone()).or_default().push(cell.to_string());
                    f64::NAN
                });
                table.columns[column].push(value);
            }
        }
        table
    }

    /// The numbers of a column.
    pub fn column(&self, name: &str) -> &[f64] {
        let at = self.names.iter().position(|n| n == name).unwrap_or_else(|| panic!("no column {name}"));
        &self.columns[at]
    }

    /// The texts of a column.
    pub fn text(&self, name: &str) -> &[String] {
        self.text.get(name).unwrap_or_else(|| panic!("no text column {name}"))
    }
}

/// A table of reference results (comma separated).
pub fn reference_table(file: &str) -> Option<Table> {
    Some(Table::read(&reference(file)?, ','))
}

/// The path of a data file; `None` where there is none and tests may skip.
pub fn data(file: &str) -> Option<PathBuf> {
    look_up("PATINA_DATA", "data", file)
}

/// The path of a file of reference results; `None` where there is none and tests may skip.
pub fn reference(file: &str) -> Option<PathBuf> {
    look_up("PATINA_REFERENCE", "reference", file)
}

fn look_up(variable: &str, folder: &str, file: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(|dir| PathBuf::from(dir).join(file));
    let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("shared").join(folder).join(file))
        .find(|path| path.exists());
    let found = named.or(beside).filter(|path| path.exists());
    if found.is_none() {
        let message = format!("{file} not found (set {variable} to its folder)");
        assert!(env::var("CI").is_ok_and(|ci| ci.is_empty()) || env::var_os("CI").is_none(), "{message}");
        eprintln!("skipped: {message}");
    }
    found
}

/// Bounds of the strata of genes by total count.
pub const STRATA: [(f64, f64); 4] = [(3.0, 10.0), (10.0, 50.0), (50.0, 200.0), (200.0, f64::INFINITY)];

impl Tissue {
    /// The stratum of each gene, an index into [`STRATA`].
    pub fn strata(&self) -> Vec<usize> {
        let stratum = |total: f64| STRATA.iter().rposition(|(least, _)| total >= *least).unwrap_or(0);
        self.counts.col_iter().map(|column| stratum(column.iter().sum())).collect()
    }
}

/// The SE kernels of the default grid.
pub fn default_kernels(locations: &Locations) -> Vec<Kernel> {
    let kernel = |lengthscale| Kernel::squared_exponential(lengthscale).expect("a lengthscale");
    scales::lengthscales(locations).into_iter().map(kernel).collect()
}

/// The SE kernels of SpatialDE's grid.
pub fn spatialde_kernels(locations: &Locations) -> Vec<Kernel> {
    let kernel = |lengthscale| Kernel::squared_exponential(lengthscale).expect("a lengthscale");
    scales::spatialde(locations, 10).into_iter().map(kernel).collect()
}

/// Calibrated p-values for SE kernels.
pub struct Tester {
    locations: Locations,
    models: Vec<Spectral>,
    /// Their forms.
    pub forms: NullForms,
}

impl Tester {
    /// The default lengthscales, and the default deltas.
    pub fn default_grid(locations: &Locations) -> Self {
        Self::new(&default_kernels(locations), locations, &patina_core::null::DELTAS)
    }

    /// Some kernels, and these deltas.
    pub fn new(kernels: &[Kernel], locations: &Locations, deltas: &[f64]) -> Self {
        let spectra = Spectrum::dense_all(kernels, locations).expect("spectra");
        let models: Vec<Spectral> = spectra.into_iter().map(Spectral::from).collect();
        let kernels: Vec<_> = models.par_iter().map(|model| model.forms(locations, deltas)).collect();
        let forms = NullForms::new(&kernels, locations, deltas).expect("forms");
        Self { locations: locations.clone(), models, forms }
    }

    /// Calls `f` with each gene's index, all its forms and its moments; results in the genes' order.
    pub fn map_genes<T: Send>(
        &self,
        y: &Mat<f64>,
        f: impl Fn(usize, &[f64], &GeneMoments) -> T + Sync,
    ) -> Vec<T> {
        const BLOCK: usize = 256;
        let blocks = y.ncols().div_ceil(BLOCK);
        let block = |b: usize| {
            let start = b * BLOCK;
            let columns = y.subcols(start, BLOCK.min(y.ncols() - start));
            let testable = vec![true; columns.ncols()];
            let block = Block::new(columns.to_owned(), &self.locations, testable, self.forms.deltas());
            let views: Vec<Box<dyn View>> =
                self.models.iter().map(|model| model.view(&block).expect("a view")).collect();
            let each = self.forms.deltas().len();
            let mut q = vec![0.0; self.forms.len()];
            let mut results = Vec::with_capacity(columns.ncols());
            for g in 0..columns.ncols() {
                for (view, q) in views.iter().zip(q.chunks_mut(each)) {
                    view.forms(g, q);
                }
                results.push(f(start + g, &q, &self.forms.gene(y.col_as_slice(start + g))));
            }
            results
        };
        let results: Vec<Vec<T>> = (0..blocks).into_par_iter().map(block).collect();
        results.into_iter().flatten().collect()
    }

    /// log10 of the p-value of each column of `y` (centred, n × genes).
    pub fn log10_p_values(&self, y: &Mat<f64>) -> Vec<f64> {
        self.map_genes(y, |_, q, gene| self.forms.p_value(q, gene).log10_pval)
    }
}

/// Random numbers, the same everywhere.
pub struct Random(SplitMix64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed, &[]))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// A random order of 0..n.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, (self.bits() % (i as u64 + 1)) as usize);
        }
        order
    }

    /// The rows of `y` in random order.
    pub fn permuted_rows(&mut self, y: &Mat<f64>) -> Mat<f64> {
        let order = self.permutation(y.nrows());
        Mat::from_fn(y.nrows(), y.ncols(), |i, g| y[(order[i], g)])
    }
}

/// Number of p-values (as log10) below the Benjamini-Hochberg threshold.
pub fn benjamini_hochberg(log10_p: &[f64], fdr: f64) -> usize {
    let mut sorted = log10_p.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    sorted
        .iter()
        .enumerate()
        .rposition(|(i, p)| *p <= (fdr * (i + 1) as f64 / count).log10())
        .map_or(0, |i| i + 1)
}

/// P(p <= a) / a over all runs, in each stratum and overall.
pub fn tail_ratios(runs: &[Vec<f64>], strata: &[usize], stratum: Option<usize>, a: f64) -> f64 {
    let bound = a.log10();
    let (mut below, mut count) = (0.0, 0.0);
    for run in runs {
        for (p, s) in run.iter().zip(strata) {
            if stratum.is_none_or(|stratum| stratum == *s) {
                count += 1.0;
                below += f64::from(*p <= bound);
            }
        }
    }
    below / count / a
}

/// Levels of [`tail_table`].
pub const LEVELS: [f64; 5] = [0.05, 0.01, 0.001, 1e-4, 1e-5];

/// [`tail_ratios`] at all [`LEVELS`], as lines `name,stratum,ratio,...`.
pub fn tail_table(name: &str, runs: &[Vec<f64>], strata: &[usize]) -> String {
    let line = |stratum: Option<usize>| {
        let label = stratum.map_or("all".to_string(), |s| {
            let (least, most) = STRATA[s];
            if most.is_finite() { format!("{least}-{most}") } else { format!("{least} and more") }
        });
        let ratios = LEVELS.map(|a| format!("{:.3}", tail_ratios(runs, strata, stratum, a)));
        format!("{name},{label},{}", ratios.join(","))
    };
    (0..STRATA.len()).map(Some).chain([None]).map(line).collect::<Vec<_>>().join("\n")
}
