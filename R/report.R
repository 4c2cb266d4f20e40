# The report: one HTML page with everything that a result says.

#' A report of an analysis, as one HTML page
#'
#' What was done, which genes were not tested and why, the table of results, the test's picture, the first
#' genes in the tissue, models, patterns, and versions. The page is one file with everything in it: it needs
#' no network, and can be sent by mail. The table can be sorted and searched if the package DT is installed.
#'
#' @param results A result of [spatial_test()].
#' @param patterns A result of [spatial_patterns()].
#' @param models A result of [model_search()].
#' @param x,coords The data that were tested, to show the first genes in the tissue. Without `x` these
#'   pictures are left out.
#' @param ... Further arguments of [plot_genes()], such as `sample_id`, `assay` or `unit`.
#' @param file Path of the page, which is replaced if it exists.
#' @param title Its title.
#' @param n_genes How many genes are shown in the tissue.
#' @returns `file`, invisibly.
#' @section Errors:
#' `patina_error_argument` if something given is not a result, or `file` cannot be written.
#' @export
#' @examplesIf rmarkdown::pandoc_available() && interactive()
#' tissue <- example_tissue()
#' results <- spatial_test(tissue)
#' patina_report(results, x = tissue, file = tempfile(fileext = ".html"))
patina_report <- function(
  results,
  patterns = NULL,
  models = NULL,
  x = NULL,
  coords = NULL,
  ...,
  file = "report.html",
  title = "Spatially variable genes",
  n_genes = 6
) {
  call <- rlang::current_env()
  check_columns(results, c("gene", "status", "qval", "log10_pval", "fsv"), "results")
  if (!is.null(patterns)) {
    check_patterns(patterns)
  }
  if (!is.null(models)) {
    check_columns(models, c("gene", "model"), "models")
  }
  check_whole_number(n_genes, min = 1)
  if (!rlang::is_string(title) || is.na(title) || title == "") {
    abort_patina("{.arg title} must be a string.", class = "argument")
  }
  if (!inherits(results, "patina_test")) {
    # a file that was read, or groups that were taken apart
    run <- attr(results, "patina")
    results <- tibble::new_tibble(as.list(results), nrow = nrow(results), class = "patina_test", patina = run)
  }
  if (!rlang::is_string(file) || !dir.exists(dirname(file)) || dir.exists(file)) {
    abort_patina("{.arg file} must be the path of a file that can be written.", class = "argument")
  }
  checked(rlang::check_installed(c("rmarkdown", "knitr"), "to write a report."))
  if (!rmarkdown::pandoc_available("1.12.3")) {
    abort_patina(
      "A report needs pandoc, which was not found: see {.url https://pandoc.org}.",
      class = "report"
    )
  }
  # pictures first: a mistake in the arguments is an error of this call, not of a page half done
  genes <- if (!is.null(x)) {
    shown <- results[results$status == "ok" & !is.na(results$log10_pval), ]
    if (nrow(shown) == 0L) {
      abort_patina(
        c("No gene of {.arg results} has a p-value: there is nothing to show.", i = "Leave {.arg x} out."),
        class = "argument"
      )
    }
    plot_genes(x, coords, top_genes(shown, n_genes), n_genes = n_genes, ...)
  }
  work <- tempfile("patina-report-")
  dir.create(work)
  on.exit(unlink(work, recursive = TRUE))
  source <- file.path(work, "report.Rmd")
  file.copy(system.file("report", "report.Rmd", package = "patina"), source)
  # between quotes of YAML
  quoted <- gsub('(["\\\\])', "\\\\\\1", title)
  told <- list(results = results, patterns = patterns, models = models, genes = genes, title = quoted)
  rmarkdown::render(
    source,
    output_file = "report.html",
    params = list(told = told),
    envir = new.env(parent = globalenv()),
    quiet = TRUE
  )
  # the last step, so that no page is left half written
  if (!file.copy(file.path(work, "report.html"), file, overwrite = TRUE)) {
    abort_patina("{.path {file}} cannot be written.", class = "argument", call = call)
  }
  invisible(file)
}

#' The table of a report: what one looks at, best genes first
#' @noRd
report_table <- function(results, limit = 5000L) {
  table <- results[order(results$log10_pval), ]
  columns <- intersect(
    c("gene", "status", "lengthscale", "fsv", "fsv_se", "llr", "pval", "qval", "rank"),
    names(table)
  )
  table <- as.data.frame(table)[utils::head(seq_len(nrow(table)), limit), columns]
  numbers <- vapply(table, is.double, NA)
  table[numbers] <- lapply(table[numbers], signif, digits = 4L)
  table
}
