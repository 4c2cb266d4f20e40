# The way of results into Bioconductor objects.

#' Add results to a Bioconductor object
#'
#' Puts a test or a model search into `rowData`, and patterns into `colData` and `rowData`, of any
#' `SummarizedExperiment`. All names begin with `patina_`; other columns are not touched. Columns
#' that are there already are replaced, so doing it twice gives the same object.
#'
#' Genes and patterns' spots are matched by name. Genes that `results` does not have get `NA`, so a
#' filtered table may be given. Names that occur more than once are matched only if `results` has
#' exactly the genes of `spe`, in the same order, as an unfiltered test has.
#'
#' @param spe A `SummarizedExperiment`, or what inherits from it: `SingleCellExperiment`,
#'   `SpatialExperiment`.
#' @param results Result of [spatial_test()], [model_search()] (both possibly filtered) or
#'   [spatial_patterns()].
#' @return `spe`, with
#' * for a test, `rowData` columns named `patina_` and the column's name: `patina_fsv`,
#'   `patina_pval`, ...;
#' * for a model search, likewise: `patina_prob_SE`, ...; those that a test has too are named
#'   `patina_search_model`, `patina_search_fsv`, ..., so that neither replaces the other;
#' * for patterns, `colData` columns `patina_pattern_1`, `patina_pattern_2`, ... (values), `rowData`
#'   columns `patina_pattern` (number) and `patina_membership` (probability); and, for a
#'   `SingleCellExperiment`, a `reducedDim` named `patina_patterns` (spots in rows, patterns in
#'   columns).
#'
#' @section Errors:
#' `patina_error_input` if `spe` is not a `SummarizedExperiment`; `patina_error_argument` if
#' `results` is not a result; `patina_error_names` if no gene or spot of `results` is in `spe`.
#' Warnings:
#' `patina_warning_unknown_genes` if some genes (pseudo-genes, perhaps) or spots are not in `spe`;
#' `patina_warning_duplicated_genes` if some cannot be matched because their name is not unique.
#'
#' @examplesIf requireNamespace("SummarizedExperiment", quietly = TRUE)
#' tissue <- example_tissue()
#' se <- SummarizedExperiment::SummarizedExperiment(
#'   list(counts = tissue$counts),
#'   colData = tissue$sample_info
#' )
#' # the test of `se` itself gives the same
#' results <- spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1)
#' se <- add_results(se, results)
#' SummarizedExperiment::rowData(se)[1:3, c("patina_fsv", "patina_qval")]
#' @export
add_results <- function(spe, results) {
  if (!methods::is(spe, "SummarizedExperiment")) {
    abort_patina(
      c(
        "{.arg spe} must be a {.cls SummarizedExperiment}, not {.obj_type_friendly {spe}}.",
        i = "Results are tibbles with a column {.field gene}: join them to your own table instead."
      ),
      class = "input"
    )
  }
  checked(rlang::check_installed(c("SummarizedExperiment", "S4Vectors"), "to add results to an object."))
  if (is.data.frame(results)) {
    check_columns(results, "gene", "results")
    add_gene_columns(spe, results$gene, result_columns(results))
  } else {
    check_patterns(results, "results")
    add_patterns(spe, results)
  }
}

#' The columns of a table of results with the names they get in rowData
#' @noRd
result_columns <- function(results) {
  columns <- as.list(results)[setdiff(names(results), "gene")]
  name <- names(columns)
  of_search <- any(startsWith(name, "prob_")) || inherits(results, "patina_models")
  unique_to_search <- startsWith(name, "prob_")
  prefix <- ifelse(of_search & !unique_to_search, "patina_search_", "patina_")
  stats::setNames(columns, paste0(prefix, name))
}

#' Add columns, one value per gene in `genes`, to rowData
#' @noRd
add_gene_columns <- function(spe, genes, columns, call = rlang::caller_env()) {
  known <- rownames(spe) %||% sprintf("gene%d", seq_len(nrow(spe)))
  row <- match_names(as.character(genes), known, "gene", call)
  SummarizedExperiment::rowData(spe) <- set_columns(
    SummarizedExperiment::rowData(spe),
    lapply(columns, function(column) unname(column)[row])
  )
  spe
}

#' Add patterns' values to colData and reducedDims, memberships to rowData
#' @noRd
add_patterns <- function(spe, patterns, call = rlang::caller_env()) {
  known <- colnames(spe) %||% sprintf("spot%d", seq_len(ncol(spe)))
  table <- patterns$patterns
  ids <- sort(unique(table$pattern))
  spots <- as.character(table$spot[table$pattern == ids[[1L]]])
  row <- match_names(spots, known, "spot", call)
  # Every pattern lists the spots in the same order.
  values <- lapply(ids, function(id) table$value[table$pattern == id][row])
  names(values) <- paste0("patina_pattern_", ids)

  samples <- SummarizedExperiment::colData(spe)
  # An earlier result may have had more patterns.
  stale <- grepl("^patina_pattern_[0-9]+$", names(samples)) & !names(samples) %in% names(values)
  SummarizedExperiment::colData(spe) <- set_columns(samples[!stale], values)
  if (methods::is(spe, "SingleCellExperiment")) {
    scores <- do.call(cbind, values)
    rownames(scores) <- colnames(spe)
    colnames(scores) <- paste0("pattern_", ids)
    SingleCellExperiment::reducedDim(spe, "patina_patterns") <- scores
  }
  memberships <- patterns$genes
  add_gene_columns(
    spe,
    memberships$gene,
    list(patina_pattern = memberships$pattern, patina_membership = memberships$membership),
    call
  )
}

#' Set columns of a DataFrame, one after the other; those that are there keep their place
#' @noRd
set_columns <- function(data, columns) {
  for (name in names(columns)) {
    data[[name]] <- columns[[name]]
  }
  data
}
