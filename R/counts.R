# What the genes of a table of counts share, and which of them can be tested.

#' One pass over counts
#'
#' @param input A `patina_input` or an expression.
#' @param tick Is told how many genes were done.
#' @returns A list: `testable` (by gene), `totals` (by spot, over testable genes), `sums` (samples ×
#'   genes) and `squares` (by gene), `phi`, the overdispersion, fitted within samples, and `depth`,
#'   the squared coefficient of variation of their totals, with the same weights. Sums of whole
#'   numbers are exact, so that all of it is the same however the input is stored and cut into blocks.
#' @noRd
summarize_counts <- function(input, call = rlang::caller_env(), arg = "x", tick = no_tick) {
  rows <- split(seq_len(input$n_spots), input$sample_id %||% rep(1L, input$n_spots))
  n_genes <- length(input$genes)
  testable <- logical(n_genes)
  totals <- numeric(input$n_spots)
  sums <- matrix(0, length(rows), n_genes)
  squares <- sums
  bad <- integer()
  for (genes in sparse_blocks(input, call)) {
    block <- input_stored_block(input, genes, call)
    bad <- c(bad, genes[not_counts(block)])
    ok <- gene_status(block) == "ok"
    testable[genes] <- ok
    totals <- totals + Matrix::rowSums(if (all(ok)) block else block[, ok, drop = FALSE])
    for (i in seq_along(rows)) {
      part <- if (length(rows) == 1L) block else block[rows[[i]], , drop = FALSE]
      sums[i, genes] <- Matrix::colSums(part)
      squares[i, genes] <- Matrix::colSums(part^2)
    }
    tick(length(genes))
  }
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} must hold counts, whole numbers of at least 0: {length(bad)} gene{?s} {?has/have}
          negative or fractional values, {.val {first_few(input$genes[bad])}}.",
        i = if (arg == "x") {
          "If the values are on the scale to be tested already, use {.code normalization = \"none\"}."
        }
      ),
      class = "counts",
      call = call
    )
  }
  n <- lengths(rows)
  means <- sums[, testable, drop = FALSE] / n
  variances <- (squares[, testable, drop = FALSE] - n * means^2) / (n - 1)
  variation <- vapply(rows, \(row) stats::var(totals[row]) / mean(totals[row])^2, numeric(1L))
  list(
    testable = testable,
    totals = totals,
    sums = sums,
    squares = colSums(squares),
    phi = sum(means^2 * (variances - means)) / sum(means^4),
    depth = sum(variation * rowSums(means^4)) / sum(means^4)
  )
}

# A gene with more than this share of all counts dominates them.
dominant_share <- 0.1

# A spot with less than this share of the median total, and fewer counts than nearly all others, is told of.
junk_share <- 0.05

#' Say what is unusual about a table of counts
#'
#' @param summary From `summarize_counts()`.
#' @noRd
report_counts <- function(input, summary) {
  totals <- summary$totals
  shares <- colSums(summary$sums) * summary$testable / sum(totals)
  dominant <- which(shares > dominant_share)
  # a few genes are bound to have large shares each
  if (length(dominant) > 0L && sum(summary$testable) >= 100L) {
    share <- sprintf("%s (%.0f%%)", input$genes[dominant], 100 * shares[dominant])
    inform_patina(c(
      i = "{length(dominant)} gene{?s} dominate{?s/} the counts: {first_few(share)}. Robust size factors give
        {?it/them} little weight; total counts would take {?its/their} pattern for depth."
    ))
  }
  if (length(totals) > 1L && stats::sd(totals) < 0.005 * mean(totals)) {
    inform_patina(c(
      i = "All spots have about the same total count: the table looks normalised already, and then its values
        are not counts. Give raw counts, or {.code normalization = \"none\"}."
    ))
  }
  report_junk_spots(input$spots, totals)
}

#' Warn of spots that hardly have counts
#'
#' @param done What is done about them.
#' @returns Their positions, invisibly.
#' @noRd
report_junk_spots <- function(spots, totals, done = "what they can do is bounded") {
  middle <- stats::median(totals)
  far <- stats::mad(log(totals[totals > 0]))
  junk <- which(totals > 0 & totals < junk_share * middle & log(totals) < log(middle) - 4 * far)
  if (length(junk) > 0L) {
    warn_patina(
      c(
        "{length(junk)} spot{?s} {?has/have} far fewer counts than the others: {.val {first_few(spots[junk])}}
          (at most {max(totals[junk])}; the median is {middle}).",
        i = "They tell next to nothing, and {done}. {.fun filter_spots} leaves them out."
      ),
      class = "junk_spots"
    )
  }
  invisible(junk)
}

#' Which genes of a raw block can be tested
#'
#' @param block Spots × genes: a double matrix or a dgCMatrix.
#' @returns One of "ok", "non-finite", "all-zero" and "constant" for each gene.
#' @noRd
gene_status <- function(block) {
  status <- rep("ok", ncol(block))
  if (methods::is(block, "sparseMatrix")) {
    # a gene without a single zero is looked at as a dense one; any other is constant if it is zero
    columns_with <- function(which) {
      if (all(which)) {
        return(diff(block@p))
      }
      columns <- findInterval(which(which) - 1L, block@p[-1L]) + 1L
      tabulate(columns, ncol(block))
    }
    non_finite <- columns_with(!is.finite(block@x)) > 0
    non_zero <- columns_with(is.na(block@x) | block@x != 0)
    full <- which(non_zero == nrow(block))
    status[full] <- gene_status(as.matrix(block[, full, drop = FALSE]))
    status[non_zero == 0] <- "all-zero"
  } else {
    same <- colSums(block != rep(block[1L, ], each = nrow(block)), na.rm = TRUE) == 0
    status[same] <- ifelse(block[1L, same] == 0, "all-zero", "constant")
    sums <- colSums(block)
    non_finite <- !is.finite(sums)
    # finite values may have a sum that is not
    non_finite[non_finite] <- colSums(!is.finite(block[, non_finite, drop = FALSE])) > 0
  }
  status[non_finite] <- "non-finite"
  status
}

#' Which columns have negative or fractional values
#' @noRd
not_counts <- function(block) {
  values <- if (is.matrix(block)) block else block@x
  bad <- is.finite(values) & (values < 0 | values != trunc(values))
  if (!any(bad)) {
    return(integer())
  }
  columns <- if (is.matrix(block)) col(block) else rep(seq_len(ncol(block)), diff(block@p))
  unique(columns[bad])
}

positive_phi <- function(phi, call) {
  if (!is.finite(phi) || phi <= 0) {
    abort_patina(
      c(
        "The counts are not overdispersed: the fit of variance = mean + phi mean\u00b2 gives phi =
          {signif(phi, 3)}, and the transformation needs phi > 0.",
        i = "phi is shared by all genes: give all of them, not a few.",
        i = "Or use {.code normalization = \"pearson\"}, which needs no overdispersion; or transform
          the counts yourself ({.code log1p(x)}) and use {.code normalization = \"none\"}."
      ),
      class = "phi",
      call = call
    )
  }
  phi
}

#' @param size_factors Whether the caller takes them.
#' @noRd
check_totals <- function(totals, spots, call, size_factors = TRUE) {
  empty <- which(totals == 0)
  if (length(empty) > 0L) {
    abort_patina(
      c(
        "{length(empty)} spot{?s} {?has/have} no counts: {.val {first_few(spots[empty])}}.",
        i = "They tell nothing: remove them by {.fun filter_spots}, or from {.arg x} and {.arg coords}.",
        i = if (size_factors) {
          "Totals are taken over the genes of {.arg x}: give all genes, not a few, or what the spots yield
            as {.arg size_factors}."
        } else {
          "Totals are taken over the genes of {.arg x}: give all genes, not a few."
        }
      ),
      class = "empty_spots",
      call = call
    )
  }
}
