# The way of results into Bioconductor objects.

#' Add results to an object
#'
#' Puts a test or a model search into `rowData`, and patterns into `colData` and `rowData`, of any
#' `SummarizedExperiment`; into the corresponding places of a Seurat object; or of a copy of an AnnData
#' file. All names begin with `patina_`; other columns are not touched. Columns
#' that are there already are replaced, so doing it twice gives the same object.
#'
#' Genes and patterns' spots are matched by name. Genes that `results` does not have get `NA`, so a
#' filtered table may be given. Names that occur more than once are matched only if `results` has
#' exactly the genes of `spe`, in the same order, as an unfiltered test has.
#'
#' @param spe A `SummarizedExperiment`, or what inherits from it: `SingleCellExperiment`,
#'   `SpatialExperiment`; a Seurat object; or the path of an AnnData file (`.h5ad`).
#' @param results Result of [spatial_test()], [model_search()] (both possibly filtered) or
#'   [spatial_patterns()], [spatial_factors()], [spatial_domains()] or [gene_correlation()].
#' @param columns Names of columns of a test or model search to add, without the prefix; by default all.
#' @param ... For Seurat objects: `assay`, the assay whose genes get the columns (by default the one that
#'   `spatial_test()` takes), and `variable_features`: `TRUE` makes the genes with `qval` below 0.05 the
#'   assay's `VariableFeatures()`, smallest p-value first; a number takes so many. For AnnData files: `file`,
#'   the path of the copy to be written, and whether to `overwrite` it.
#' @return `spe`, with
#' * for a test, `rowData` columns named `patina_` and the column's name: `patina_fsv`,
#'   `patina_pval`, ...;
#' * for a model search, likewise: `patina_prob_SE`, ...; those that a test has too are named
#'   `patina_search_model`, `patina_search_fsv`, ..., so that neither replaces the other;
#' * for patterns, `colData` columns `patina_pattern_1`, `patina_pattern_2`, ... (values), `rowData`
#'   columns `patina_pattern` (number) and `patina_membership` (probability); and, for a
#'   `SingleCellExperiment`, a `reducedDim` named `patina_patterns` (spots in rows, patterns in
#'   columns);
#' * for factors, `colData` columns `patina_factor_1`, ..., `rowData` columns `patina_loading_1`, ..., and a
#'   `reducedDim` named `patina_factors`;
#' * for domains, `colData` columns `patina_domain` and `patina_domain_probability`;
#' * for correlations of genes, `rowData` columns `patina_module` and `patina_silhouette`.
#'
#' In a Seurat object, the assay's meta features stand for `rowData` and the object's meta data for `colData`;
#' in an AnnData file `var` and `obs`. Of an AnnData file a copy is written; its path is returned, invisibly.
#' Python's anndata reads it.
#'
#' @section Errors:
#' `patina_error_input` if `spe` is none of these; `patina_error_argument` if `results` is not a result, has
#' not the `columns`, or `file` exists; `patina_error_names` if no gene or spot of `results` is in `spe`.
#' Warnings: `patina_warning_unknown_genes` if some genes (pseudo-genes, perhaps) or spots are not in `spe`;
#' `patina_warning_duplicated_genes` if some cannot be matched because their name is not unique.
#'
#' @seealso [add_spatial_test()], which tests and adds in one call.
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
add_results <- function(spe, results, columns = NULL, ...) {
  added <- new_columns(results, columns)
  switch(
    container_of(spe),
    Bioconductor = add_to_experiment(spe, added, ...),
    Seurat = add_to_seurat(spe, added, ...),
    AnnData = add_to_h5ad(spe, added, ...)
  )
}

#' Test, and add the result to the object
#'
#' `spe <- add_spatial_test(spe)` is [spatial_test()] and [add_results()] in one call, the way of
#' Bioconductor's nnSVG: where its users write `spe <- nnSVG(spe)` and find `rank` and `padj` in
#' `rowData(spe)`, here it is `patina_rank` and `patina_qval`. Of the same name in all containers:
#'
#' ```r
#' spe <- add_spatial_test(spe)
#' rowData(spe)[order(rowData(spe)$patina_rank), ]
#' seurat <- add_spatial_test(seurat)
#' add_spatial_test("tissue.h5ad", file = "tested.h5ad")
#' ```
#'
#' @inheritParams add_results
#' @param columns Names of the test's columns to add, without the prefix.
#' @param ... Arguments of [spatial_test()]; and of [add_results()]: `variable_features`, `file`, `overwrite`.
#' @return As [add_results()].
#' @section Errors:
#' Those of [spatial_test()] and [add_results()].
#' @examplesIf requireNamespace("SpatialExperiment", quietly = TRUE)
#' spe <- add_spatial_test(example_tissue(as = "SpatialExperiment"), threads = 1)
#' SummarizedExperiment::rowData(spe)[1:3, ]
#' @export
add_spatial_test <- function(
  spe,
  ...,
  columns = c("status", "lengthscale", "fsv", "llr", "pval", "qval", "rank")
) {
  call <- rlang::current_env()
  container <- container_of(spe, call)
  given <- rlang::list2(...)
  for_adding <- rlang::names2(given) %in% c("variable_features", "file", "overwrite")
  adding <- given[for_adding]
  if (container == "AnnData") {
    # before the work, not after
    check_new_file(given$file, isTRUE(given$overwrite), call)
  }
  results <- rlang::inject(spatial_test(spe, !!!given[!for_adding]))
  if (container == "Seurat") {
    adding <- c(adding, list(assay = given$assay, image = given$image %||% given$fov))
  }
  rlang::inject(add_results(spe, results, columns, !!!adding[lengths(adding) > 0L]))
}

#' Which family of objects `spe` belongs to
#' @noRd
container_of <- function(spe, call = rlang::caller_env()) {
  if (inherits(spe, "Seurat")) {
    return("Seurat")
  }
  if (is.character(spe)) {
    check_h5ad(spe, "spe", call)
    return("AnnData")
  }
  if (!methods::is(spe, "SummarizedExperiment")) {
    abort_patina(
      c(
        "{.arg spe} must be a {.cls SummarizedExperiment}, a Seurat object or the path of an AnnData file, not
          {.obj_type_friendly {spe}}.",
        i = "Results are tibbles with a column {.field gene}: join them to your own table instead."
      ),
      class = "input",
      call = call
    )
  }
  "Bioconductor"
}

# What is added ----------------------------------------------------------------------------------

#' The columns that results add to genes and to spots, with their names
#'
#' @returns A list: `genes` and `spots`, names, and their columns, `of_genes` and `of_spots`; without spots
#'   for a test or a model search. `results` as they were.
#' @noRd
new_columns <- function(results, columns, call = rlang::caller_env()) {
  if (inherits(results, "patina_domains")) {
    return(list(
      genes = character(),
      of_genes = list(),
      spots = as.character(results$spot),
      of_spots = list(
        patina_domain = results$domain,
        patina_domain_probability = results$probability
      ),
      results = results
    ))
  }
  if (is.data.frame(results)) {
    check_columns(results, "gene", "results", call)
    if (!is.null(columns)) {
      check_columns(results, columns, "results", call)
    }
    own <- columns %||% setdiff(names(results), "gene")
    return(list(genes = results$gene, of_genes = result_columns(results, own), results = results))
  }
  if (inherits(results, "patina_factors")) {
    return(factor_columns(results))
  }
  if (inherits(results, "patina_correlation")) {
    modules <- results$modules
    return(list(
      genes = modules$gene,
      of_genes = list(patina_module = modules$module, patina_silhouette = modules$silhouette),
      results = results
    ))
  }
  check_patterns(results, "results", call)
  table <- results$patterns
  ids <- sort(unique(table$pattern))
  # Every pattern lists the spots in the same order.
  values <- lapply(ids, function(id) table$value[table$pattern == id])
  memberships <- results$genes
  list(
    genes = memberships$gene,
    of_genes = list(patina_pattern = memberships$pattern, patina_membership = memberships$membership),
    spots = as.character(table$spot[table$pattern == ids[[1L]]]),
    of_spots = stats::setNames(values, paste0("patina_pattern_", ids)),
    reduced = "patina_patterns",
    results = results
  )
}

#' The same of spatial factors
#' @noRd
factor_columns <- function(factors) {
  names <- colnames(factors$loadings)
  ids <- seq_along(names)
  loadings <- lapply(ids, \(k) unname(factors$loadings[, k]))
  list(
    genes = rownames(factors$loadings),
    of_genes = stats::setNames(loadings, paste0("patina_loading_", ids)),
    spots = as.character(factors$factors$spot),
    of_spots = stats::setNames(as.list(factors$factors[names]), paste0("patina_factor_", ids)),
    reduced = "patina_factors",
    results = factors
  )
}

#' The columns of a table of results with the names they get in the object
#' @noRd
result_columns <- function(results, names) {
  of_search <- any(startsWith(names(results), "prob_")) || inherits(results, "patina_models")
  prefix <- ifelse(of_search & !startsWith(names, "prob_"), "patina_search_", "patina_")
  stats::setNames(as.list(results)[names], paste0(prefix, names))
}

#' Columns in the order of the names of the object
#' @noRd
matched_columns <- function(columns, names, known, what, call) {
  row <- match_names(as.character(names), known, what, call)
  lapply(columns, function(column) unname(column)[row])
}

#' Set columns of a table, one after the other; those that are there keep their place
#' @noRd
set_columns <- function(data, columns) {
  for (name in names(columns)) {
    data[[name]] <- columns[[name]]
  }
  data
}

#' Columns of an earlier result that had more patterns, or factors, than that which is added
#'
#' @param names Those that are there.
#' @param columns Those that take their place.
#' @noRd
is_stale <- function(names, columns, added) {
  number <- "_[0-9]+$"
  kinds <- sub(number, "", grep(number, names(columns), value = TRUE))
  !is.null(added$reduced) &
    grepl(number, names) &
    sub(number, "", names) %in% kinds &
    !names %in% names(columns)
}

# Where it is added ------------------------------------------------------------------------------

add_to_experiment <- function(spe, added, ..., call = rlang::caller_env()) {
  checked(rlang::check_dots_empty(call = call))
  checked(rlang::check_installed(c("SummarizedExperiment", "S4Vectors"), "to add results to an object."))
  if (!is.null(added$spots)) {
    spots <- colnames(spe) %||% sprintf("spot%d", seq_len(ncol(spe)))
    values <- matched_columns(added$of_spots, added$spots, spots, "spot", call)
    samples <- SummarizedExperiment::colData(spe)
    kept <- samples[!is_stale(names(samples), values, added)]
    SummarizedExperiment::colData(spe) <- set_columns(kept, values)
    if (!is.null(added$reduced) && methods::is(spe, "SingleCellExperiment")) {
      scores <- do.call(cbind, values)
      dimnames(scores) <- list(colnames(spe), sub("^patina_", "", names(values)))
      SingleCellExperiment::reducedDim(spe, added$reduced) <- scores
    }
  }
  genes <- rownames(spe) %||% sprintf("gene%d", seq_len(nrow(spe)))
  columns <- matched_columns(added$of_genes, added$genes, genes, "gene", call)
  table <- SummarizedExperiment::rowData(spe)
  kept <- table[!is_stale(names(table), columns, added)]
  SummarizedExperiment::rowData(spe) <- set_columns(kept, columns)
  spe
}

add_to_seurat <- function(
  seurat,
  added,
  ...,
  assay = "counts",
  image = NULL,
  variable_features = FALSE,
  call = rlang::caller_env()
) {
  checked(rlang::check_dots_empty(call = call))
  checked(rlang::check_installed("SeuratObject", "to add results to Seurat objects."))
  assay <- seurat_assay(seurat, assay, seurat_images(seurat, image, "image", call), "spe", call)
  genes <- rownames(seurat[[assay]])
  if (length(added$of_genes) > 0L) {
    columns <- matched_columns(added$of_genes, added$genes, genes, "gene", call)
    known <- names(seurat[[assay]][[]])
    for (name in known[is_stale(known, columns, added)]) {
      seurat[[assay]][[name]] <- NULL
    }
    table <- as.data.frame(columns, optional = TRUE, row.names = genes)
    seurat[[assay]] <- SeuratObject::AddMetaData(seurat[[assay]], table)
  }
  if (!identical(variable_features, FALSE)) {
    SeuratObject::VariableFeatures(seurat[[assay]]) <- spatial_features(
      added$results,
      variable_features,
      genes,
      call
    )
  }
  if (!is.null(added$spots)) {
    values <- matched_columns(added$of_spots, added$spots, colnames(seurat), "spot", call)
    known <- names(seurat[[]])
    for (name in known[is_stale(known, values, added)]) {
      seurat[[name]] <- NULL
    }
    table <- as.data.frame(values, optional = TRUE, row.names = colnames(seurat))
    seurat <- SeuratObject::AddMetaData(seurat, table)
  }
  seurat
}

#' Genes for VariableFeatures(): the hits, or the first `n`
#' @noRd
spatial_features <- function(results, n, known, call) {
  if (!isTRUE(n)) {
    check_whole_number(n, min = 1, arg = "variable_features", call = call)
  }
  check_columns(results, c("gene", "qval"), "results", call)
  chosen <- if (isTRUE(n)) {
    top_genes(results[which(results$qval < 0.05), ], nrow(results))
  } else {
    top_genes(results, n)
  }
  intersect(chosen$gene, known)
}
