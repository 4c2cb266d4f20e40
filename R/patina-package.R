#' patina: spatially variable genes and tissue patterns
#'
#' patina finds genes whose expression depends on where in a tissue it was measured, says what kind of
#' spatial function each follows, and groups them into tissue patterns, by the Gaussian process models
#' of SpatialDE; beside these, it finds the programs that genes are mixtures of, and domains of the tissue. It
#' takes Bioconductor and Seurat objects, AnnData files, matrices and data frames, and returns tibbles.
#'
#' @section The analysis:
#' 1. [spatial_test()]: which genes are spatially variable? One row for each gene, with p-value, q-value,
#'    lengthscale and the fraction of variance that is spatial.
#' 2. [model_search()]: which kind of function does each of them follow: smooth, periodic or linear?
#' 3. [spatial_patterns()]: which genes share a pattern, and what does it look like?
#'    [predict()][predict.patina_patterns] evaluates it at other locations.
#' 4. [spatial_factors()] and [spatial_domains()]: which smooth programs does the tissue have, which parts?
#'
#' [predict()][predict.patina_test] of a test says where a gene is high; [gene_correlation()] finds modules of
#' genes that go together.
#'
#' @section Around it:
#' - Pictures: [plot_test()], [plot_genes()], [plot_gene_field()], [plot_patterns()], [plot_factors()],
#'   [plot_domains()], [plot_modules()]; [patina_report()], all on one page.
#' - Into a SummarizedExperiment, SpatialExperiment, Seurat object or AnnData file: [add_results()],
#'   [add_spatial_test()].
#' - Spots and genes of too few counts: [filter_spots()], [filter_genes()].
#' - The steps of `normalization = "anscombe"` on their own: [stabilize()], [regress_out()]. False
#'   discovery rates: [qvalues()].
#' - Data: [example_tissue()], a simulated tissue whose patterns are known; [load_dataset()], six real ones.
#'
#' @section Options:
#' No result depends on any of them.
#' - `patina.threads`: the number of threads, by default all cores.
#' - `patina.tempdir`: the folder for the files that workers of `BPPARAM` read, by default the session's
#'   own; see [spatial_test()].
#' - `patina.block_genes`: how many genes are read and tested at a time, by default as many as keep within
#'   about 200 MB.
#'
#' @section Files:
#' What workers of `BPPARAM` read is written to a folder of its own that only you can open (mode 0700, its
#' files 0600, where the system has modes), and removed at the end. A file's checksum tells whether it came
#' over whole: it finds damage, not malice, as whoever can write the file can make the checksum right. So let
#' `patina.tempdir` be a folder whose owner and administrators you trust. Data sets are another matter:
#' [load_dataset()] compares their SHA-256 with what the package knows, wherever they come from.
#'
#' @section Conditions:
#' Every error is of class `patina_error`, every warning of class `patina_warning`, every message of class
#' `patina_message`. Errors and warnings have a class of their own besides, such as `patina_error_argument`:
#' - of what was given: `input` (what `x` is), `coords`, `transposed`, `too_few_spots`, `names` (which do not
#'   match), `argument`, `covariates`, `counts`, `phi`, `empty_spots`, `data` (nothing is left to work on);
#' - of what cannot be had: `approximation`, `memory`, `timeout`, `reading`, `file`, `tempdir`, `workers`,
#'   `download`, `report`; and `rust`, which should not occur.
#'
#' Warnings tell of spots (`junk_spots`, `few_spots`, `copied_spots`, `non_finite_spots`, `unknown_spots`,
#' `duplicated_spots`), of genes (`genes`, `duplicated_genes`, `unknown_genes`, `failed_genes`,
#' `likelihood_genes`), of `kernels` that were left out, of `workers`, and of a tissue with `no_factors` or
#' `no_domains`.
#'
#' @references
#' V. Svensson, S. A. Teichmann, O. Stegle (2018). SpatialDE: identification of spatially variable genes.
#' *Nature Methods* 15. \doi{10.1038/nmeth.4636}
#' @seealso `vignette(package = "patina")`, and `citation("patina")`.
#' @examples
#' tissue <- example_tissue()
#' coords <- tissue$sample_info[c("x", "y")]
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' subset(results, qval < 0.05)
#' @keywords internal
#' @importFrom grid circleGrob gpar unit
#' @importFrom rlang %||% .data
#' @useDynLib patina, .registration = TRUE
"_PACKAGE"
