# Spots and genes with too few counts to say anything.

#' Leave out spots or genes with too few counts
#'
#' [spatial_test()] bounds what spots of hardly any depth can do, and warns of them; it gives genes of a few
#' counts their right p-values. So neither filter is needed for right p-values. Without such spots pictures
#' are clearer, and fewer genes leave more power to the others.
#'
#' @param x Counts: a data.frame with spots in rows and genes in columns; a matrix, sparse Matrix or
#'   DelayedMatrix with genes in rows and spots in columns; or a SummarizedExperiment and what inherits from
#'   it.
#' @param min_total Fewest counts of a spot, over all genes; or of a gene, over all spots.
#' @param min_share A spot needs at least this share of the median spot's total.
#' @param min_spots A gene needs counts in at least so many spots.
#' @param ... Must be empty.
#' @param assay Which assay of a SummarizedExperiment has the counts.
#' @returns `x` without what has too few counts, in the same order; a message says how many were left out.
#'   Coordinates are to be those of the spots that are left (see the example); a SpatialExperiment carries its
#'   own.
#' @section Errors:
#' `patina_error_input` if `x` cannot be read, `patina_error_argument` for limits that do not make sense,
#' `patina_error_counts` if nothing is left.
#' @export
#' @examples
#' tissue <- example_tissue()
#' counts <- filter_spots(tissue$counts)
#' counts <- filter_genes(counts, min_total = 10)
#' coords <- tissue$sample_info[colnames(counts), c("x", "y")]
filter_spots <- function(x, ..., min_total = 1, min_share = 0.05, assay = "counts") {
  checked(rlang::check_dots_empty())
  check_number(min_total, \(n) is.finite(n) && n >= 0, "of at least 0")
  check_number(min_share, \(n) n >= 0 && n < 1, "from 0 to below 1")
  expression <- read_expression(x, assay)
  check_can_filter(x)
  totals <- numeric(expression$n_spots)
  for (genes in gene_blocks(expression)) {
    block <- input_stored_block(expression, genes)
    totals <- totals + Matrix::rowSums(block, na.rm = TRUE)
  }
  kept <- totals >= max(min_total, min_share * stats::median(totals))
  keep_some(x, kept, expression$spots_in_rows, "spot")
}

#' @rdname filter_spots
#' @export
filter_genes <- function(x, ..., min_total = 3, min_spots = 1, assay = "counts") {
  checked(rlang::check_dots_empty())
  check_number(min_total, \(n) is.finite(n) && n >= 0, "of at least 0")
  check_number(min_spots, \(n) is.finite(n) && n >= 0, "of at least 0")
  expression <- read_expression(x, assay)
  check_can_filter(x)
  totals <- spots <- numeric(length(expression$genes))
  for (genes in gene_blocks(expression)) {
    block <- input_stored_block(expression, genes)
    totals[genes] <- Matrix::colSums(block, na.rm = TRUE)
    spots[genes] <- Matrix::colSums(block > 0, na.rm = TRUE)
  }
  keep_some(x, totals >= min_total & spots >= min_spots, !expression$spots_in_rows, "gene")
}

#' Check that rows and columns of `x` can be taken
#' @noRd
check_can_filter <- function(x, call = rlang::caller_env()) {
  if (length(dim(x)) != 2L || inherits(x, "Seurat")) {
    abort_patina(
      c(
        "{.arg x} must be a table, matrix or SummarizedExperiment, not {.obj_type_friendly {x}}.",
        i = if (inherits(x, "patina_dataset")) "Give its counts, {.code x$counts}.",
        i = if (inherits(x, "Seurat")) "Use {.code subset(x, nCount_Spatial > 100)}, or the like."
      ),
      class = "input",
      call = call
    )
  }
}

#' @param in_rows Whether what is filtered is in the rows of `x`.
#' @noRd
keep_some <- function(x, kept, in_rows, what, call = rlang::caller_env()) {
  if (!any(kept)) {
    abort_patina(
      c(
        "No {what} has enough counts: all {length(kept)} would be left out.",
        i = "Lower the limits, or look at {.arg x}: does it hold counts?"
      ),
      class = "counts",
      call = call
    )
  }
  left_out <- sum(!kept)
  inform_patina(
    "{left_out} of {length(kept)} {what}{?s/s} {cli::qty(left_out)}{?has/have} too few counts and {?is/are}
      left out."
  )
  if (in_rows) x[kept, , drop = FALSE] else x[, kept, drop = FALSE]
}
