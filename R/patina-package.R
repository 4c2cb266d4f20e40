#' patina: spatially variable genes and tissue patterns
#'
#' patina finds genes whose expression depends on where in a tissue it was measured, says what kind of
#' spatial function each follows, and groups them into tissue patterns, by the Gaussian process models
#' of SpatialDE. It takes Bioconductor objects, matrices and data frames, and returns tibbles.
#'
#' @section The analysis:
#' 1. [spatial_test()]: which genes are spatially variable? One row for each gene, with p-value, q-value,
#'    lengthscale and the fraction of variance that is spatial.
#' 2. [model_search()]: which kind of function does each of them follow: smooth, periodic or linear?
#' 3. [spatial_patterns()]: which genes share a pattern, and what does it look like?
#'    [predict()][predict.patina_patterns] evaluates it at other locations.
#'
#' @section Around it:
#' - Pictures: [plot_test()], [plot_genes()], [plot_patterns()].
#' - Into a SummarizedExperiment or SpatialExperiment: [add_results()].
#' - The steps of `normalization = "anscombe"` on their own: [stabilize()], [regress_out()]. False
#'   discovery rates: [qvalues()].
#' - Data: [example_tissue()], a simulated tissue whose patterns are known; [load_dataset()], two real ones.
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
#' Every error is of class `patina_error`, every warning of class `patina_warning`, each with a subclass that
#' the help pages name; every message is of class `patina_message`.
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
