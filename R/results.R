# Results: how they print, and their way into Bioconductor objects.

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
  rlang::check_installed(c("SummarizedExperiment", "S4Vectors"), "to add results to an object.")
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

#' For each name of the object, its position in the result's names, or NA
#' @noRd
match_names <- function(names, known, what, call) {
  if (identical(names, known)) {
    return(seq_along(known))
  }
  absent <- setdiff(names, known)
  if (length(names) > 0L && length(absent) == length(unique(names))) {
    abort_patina(
      c(
        "No {what} of {.arg results} is in {.arg spe}.",
        x = "{.arg results} has {.val {first_few(names, 3L)}}.",
        x = "{.arg spe} has {.val {first_few(known, 3L)}}.",
        i = "Was it made from another object, or have names changed since?"
      ),
      class = "names",
      call = call
    )
  }
  if (length(absent) > 0L) {
    warn_patina(
      c(
        "{length(absent)} {what}{?s} of {.arg results} {?is/are} not in {.arg spe}.",
        i = "Left out: {.val {first_few(absent)}}."
      ),
      class = paste0("unknown_", what, "s")
    )
  }
  ambiguous <- unique(c(names[duplicated(names)], known[duplicated(known)]))
  ambiguous <- intersect(intersect(ambiguous, names), known)
  if (length(ambiguous) > 0L) {
    warn_patina(
      c(
        "{length(ambiguous)} name{?s} of {what}s occur{?s/} more than once.",
        x = "Not matched, so {.val {NA}}: {.val {first_few(ambiguous)}}.",
        i = "Make names unique, or give the result for all {what}s in order."
      ),
      class = paste0("duplicated_", what, "s")
    )
  }
  names[names %in% ambiguous] <- NA
  match(known, names)
}

#' Check that `x` is a data frame with certain columns
#' @noRd
check_columns <- function(x, columns, arg, call = rlang::caller_env()) {
  if (!is.data.frame(x)) {
    abort_patina(
      "{.arg {arg}} must be a table of results, not {.obj_type_friendly {x}}.",
      class = "argument",
      call = call
    )
  }
  absent <- setdiff(columns, names(x))
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} has no column{?s} {.field {absent}}.",
        i = "Give the result as it was returned, filtered or sorted as you like."
      ),
      class = "argument",
      call = call
    )
  }
}

#' Check that `x` is a result of spatial_patterns()
#' @noRd
check_patterns <- function(x, arg = "patterns", call = rlang::caller_env()) {
  if (!is.list(x) || !is.data.frame(x[["patterns"]]) || !is.data.frame(x[["genes"]])) {
    abort_patina(
      c(
        "{.arg {arg}} must be a result of patina, not {.obj_type_friendly {x}}.",
        i = "Patterns come from {.fun spatial_patterns}."
      ),
      class = "argument",
      call = call
    )
  }
  check_columns(x$patterns, c("spot", "pattern", "value"), arg, call)
  check_columns(x$genes, c("gene", "pattern", "membership"), arg, call)
}

#' Check that `x` is one whole number
#' @noRd
check_whole_number <- function(x, min, arg = rlang::caller_arg(x), call = rlang::caller_env()) {
  if (!rlang::is_integerish(x, n = 1L, finite = TRUE) || x < min) {
    abort_patina(
      "{.arg {arg}} must be a whole number of at least {min}.",
      class = "argument",
      call = call
    )
  }
}

# The header that is printed above the rows ------------------------------------------------------

#' @importFrom tibble tbl_sum
#' @method tbl_sum patina_test
#' @export
tbl_sum.patina_test <- function(x, ...) {
  c("A spatial test" = table_size(x), run_summary(x), hits_summary(x))
}

#' @method tbl_sum patina_models
#' @export
tbl_sum.patina_models <- function(x, ...) {
  c("A model search" = table_size(x), run_summary(x), models_summary(x))
}

table_size <- function(x) {
  sprintf("%s \u00d7 %d", format(nrow(x), big.mark = ","), ncol(x))
}

#' How the result was made, from its attribute; nothing if that was lost on the way
#' @noRd
run_summary <- function(x) {
  run <- attr(x, "patina")
  c(
    spots = if (!is.null(run$n)) {
      d <- length(run$coords)
      paste0(
        format(run$n, big.mark = ","),
        if (d > 0L) sprintf(" in %d-D", d),
        if (isTRUE(run$samples > 1L)) sprintf(", %d samples", run$samples)
      )
    },
    kernels = if (is.data.frame(run$kernels)) kernels_summary(run$kernels),
    method = if (!is.null(run$normalization) || !is.null(run$pval_method)) {
      paste(
        c(
          if (!is.null(run$normalization)) {
            paste("normalization", run$normalization)
          },
          if (!is.null(run$pval_method)) paste("p-values", run$pval_method)
        ),
        collapse = ", "
      )
    }
  )
}

#' Such as "10 SE (lengthscales 0.4 to 61), 1 linear"
#' @noRd
kernels_summary <- function(kernels) {
  models <- unique(kernels$model)
  one <- vapply(
    models,
    function(model) {
      count <- paste(sum(kernels$model == model), model)
      lengths <- kernels$lengthscale[kernels$model == model]
      lengths <- lengths[is.finite(lengths)]
      if (length(lengths) < 2L) {
        return(count)
      }
      what <- if (model == "PER") "periods" else "lengthscales"
      ends <- vapply(signif(range(lengths), 3L), format, character(1L))
      sprintf("%s (%s %s to %s)", count, what, ends[[1L]], ends[[2L]])
    },
    character(1L)
  )
  engines <- setdiff(kernels$engine, "dense")
  paste0(
    paste(one, collapse = ", "),
    if (length(engines) > 0L) {
      sprintf("; %d approximated by %s", sum(kernels$engine %in% engines), paste(engines, collapse = ", "))
    }
  )
}

hits_summary <- function(x) {
  status <- x[["status"]] %||% "ok"
  unknown <- sum(status %in% "not converged")
  untested <- sum(status != "ok", na.rm = TRUE) - unknown
  text <- c(
    if (is.numeric(x[["qval"]])) {
      sprintf("%s with qval < 0.05", format(sum(x$qval < 0.05, na.rm = TRUE), big.mark = ","))
    },
    if (untested > 0L) {
      sprintf("%s not tested (see status)", format(untested, big.mark = ","))
    },
    if (unknown > 0L) {
      sprintf("%s not converged", format(unknown, big.mark = ","))
    }
  )
  if (length(text) > 0L) c(genes = paste(text, collapse = ", "))
}

models_summary <- function(x) {
  if (is.null(x[["model"]]) || nrow(x) == 0L) {
    return(NULL)
  }
  count <- sort(table(x$model), decreasing = TRUE)
  c(genes = paste(count, names(count), collapse = ", "))
}
