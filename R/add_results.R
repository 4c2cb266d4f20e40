# The way of results into Bioconductor objects.

#' Add results to an object
#'
#' Puts a test or a model search into `rowData`, and patterns into `colData` and `rowData`, of any
#' `SummarizedExperiment`; into the corresponding places of a Seurat object; or of a copy of an AnnData
#' file. All names begin with `patina_`; other columns are not touched. Columns
#' that are there already are replaced, so doing it twice gives the same object.
#'
#' Genes and spots are matched by name, spots of several samples that share names by sample and name. Genes
#' that `results` does not have get `NA`, so a filtered table may be given. Names that occur more than once
#' are matched only if `results` has exactly the genes (or spots) of `spe`, in the same order, as an
#' unfiltered test has. An object without names must have as many genes and spots as were analysed.
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
#' @returns A list: `genes` and `spots`, names, and their columns, `of_genes` and `of_spots`; `n_genes` and
#'   `n_spots`, how many the input had, or `NULL`; `sample` of the spots, if there were several; without spots
#'   for a test or a model search. `results` as they were.
#' @noRd
new_columns <- function(results, columns, call = rlang::caller_env()) {
  of_domains <- inherits(results, "patina_domains") ||
    (is.data.frame(results) && all(c("spot", "domain") %in% names(results)))
  of_test <- is.data.frame(results) && !of_domains
  if (!of_test && !is.null(columns)) {
    abort_patina(
      "{.arg columns} chooses columns of a test or a model search; of other results all are added.",
      class = "argument",
      call = call
    )
  }
  if (inherits(results, "patina_field")) {
    abort_patina(
      c(
        "{.arg results} is the field of genes, which has a row for each place.",
        i = "See it by {.fn plot_gene_field}."
      ),
      class = "argument",
      call = call
    )
  }
  if (of_test) {
    check_columns(results, "gene", "results", call)
    if (!is.null(columns)) {
      check_columns(results, columns, "results", call)
    }
    own <- columns %||% setdiff(names(results), "gene")
    return(list(
      genes = results$gene,
      of_genes = result_columns(results, own),
      n_genes = attr(results, "patina")$n_genes,
      results = results
    ))
  }
  added <- if (of_domains) {
    domain_columns(results, call)
  } else if (inherits(results, "patina_factors")) {
    factor_columns(results)
  } else if (inherits(results, "patina_correlation")) {
    modules <- results$modules
    list(
      genes = modules$gene,
      of_genes = list(patina_module = modules$module, patina_silhouette = modules$silhouette),
      n_genes = results$n_genes
    )
  } else {
    check_patterns(results, "results", call)
    pattern_columns(results)
  }
  c(added, list(results = results))
}

#' The same of domains
#' @noRd
domain_columns <- function(domains, call) {
  check_columns(domains, c("spot", "domain", "probability"), "results", call)
  if (nrow(domains) == 0L) {
    abort_patina("{.arg results} has no rows: no spot has a domain.", class = "argument", call = call)
  }
  list(
    genes = character(),
    of_genes = list(),
    spots = as.character(domains$spot),
    sample = domains[["sample"]],
    n_spots = attr(domains, "patina")$n %||% nrow(domains),
    of_spots = list(
      patina_domain = domains$domain,
      patina_domain_probability = domains$probability
    )
  )
}

#' The same of patterns
#' @noRd
pattern_columns <- function(patterns) {
  table <- patterns$patterns
  ids <- sort(unique(table$pattern))
  # Every pattern lists the spots in the same order.
  values <- lapply(ids, function(id) table$value[table$pattern == id])
  memberships <- patterns$genes
  first <- table[table$pattern == ids[[1L]], ]
  list(
    genes = memberships$gene,
    of_genes = list(patina_pattern = memberships$pattern, patina_membership = memberships$membership),
    n_genes = patterns$model$genes_of_x,
    spots = as.character(first$spot),
    sample = first[["sample"]],
    n_spots = nrow(first),
    of_spots = stats::setNames(values, paste0("patina_pattern_", ids)),
    reduced = "patina_patterns"
  )
}

#' The same of spatial factors
#' @noRd
factor_columns <- function(factors) {
  names <- colnames(factors$loadings)
  ids <- seq_along(names)
  loadings <- lapply(ids, \(k) unname(factors$loadings[, k]))
  places <- factors$factors
  list(
    genes = rownames(factors$loadings),
    of_genes = stats::setNames(loadings, paste0("patina_loading_", ids)),
    n_genes = factors$model$genes_of_x,
    spots = as.character(places$spot),
    sample = places[["sample"]],
    n_spots = nrow(places),
    of_spots = stats::setNames(as.list(places[names]), paste0("patina_factor_", ids)),
    reduced = "patina_factors"
  )
}

#' The columns of a table of results with the names they get in the object
#' @noRd
result_columns <- function(results, names) {
  of_search <- any(startsWith(names(results), "prob_")) || inherits(results, "patina_models")
  prefix <- ifelse(of_search & !startsWith(names, "prob_"), "patina_search_", "patina_")
  stats::setNames(as.list(results)[names], paste0(prefix, names))
}

#' Columns of genes in the order of an object's
#' @param genes The object's names, `NULL` if it has none, and `n`, their number.
#' @noRd
columns_of_genes <- function(added, genes, n, call) {
  genes <- genes %||% given_names("gene", n, added$n_genes, call)
  row <- match_names(as.character(added$genes), genes, "gene", call)
  lapply(added$of_genes, \(column) unname(column)[row])
}

#' Columns of spots in the order of an object's; those of several samples may share names
#' @param table The object's table of spots, or `NULL`.
#' @noRd
columns_of_spots <- function(added, spots, n, table, call) {
  spots <- spots %||% given_names("spot", n, added$n_spots, call)
  keys <- spot_keys(added, spots, table)
  row <- match_names(keys$results, keys$object, "spot", call)
  lapply(added$of_spots, \(column) unname(column)[row])
}

#' Names with their sample where names alone do not tell spots apart
#'
#' Samples are those of the column of `table` that names them, `sample_id` before others.
#' @returns A list: `results` and `object`.
#' @noRd
spot_keys <- function(added, spots, table) {
  names <- list(results = added$spots, object = spots)
  if (is.null(added$sample) || (!anyDuplicated(added$spots) && !anyDuplicated(spots))) {
    return(names)
  }
  key <- \(names, sample) sprintf("%s (%s)", names, sample)
  of_results <- key(added$spots, added$sample)
  for (column in union(intersect("sample_id", names(table)), names(table))) {
    of_object <- if (is.atomic(table[[column]])) key(spots, table[[column]])
    if (any(of_results %in% of_object) && !anyDuplicated(of_results) && !anyDuplicated(of_object)) {
      return(list(results = of_results, object = of_object))
    }
  }
  names
}

#' The names that patina gave to genes or spots of an object without names
#' @noRd
given_names <- function(what, n, n_analysed, call) {
  if (!is.null(n_analysed) && n_analysed != n) {
    abort_patina(
      c(
        "The {what}s of {.arg spe} have no names, and it has {n} of them: {.arg results} is of {n_analysed}.",
        i = "Without names {what}s cannot be matched: give the object that was analysed, or name its {what}s
          before."
      ),
      class = "names",
      call = call
    )
  }
  sprintf("%s%d", what, seq_len(n))
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
    samples <- SummarizedExperiment::colData(spe)
    values <- columns_of_spots(added, colnames(spe), ncol(spe), samples, call)
    kept <- samples[!is_stale(names(samples), values, added)]
    SummarizedExperiment::colData(spe) <- set_columns(kept, values)
    if (!is.null(added$reduced) && methods::is(spe, "SingleCellExperiment")) {
      scores <- do.call(cbind, values)
      dimnames(scores) <- list(colnames(spe), sub("^patina_", "", names(values)))
      SingleCellExperiment::reducedDim(spe, added$reduced) <- scores
    }
  }
  columns <- columns_of_genes(added, rownames(spe), nrow(spe), call)
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
    columns <- columns_of_genes(added, genes, length(genes), call)
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
    values <- columns_of_spots(added, colnames(seurat), ncol(seurat), seurat[[]], call)
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
