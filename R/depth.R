# What depth does to counts, and residuals without it.

# Spots with less than this share of the median size factor are treated as if they had as much, in what bounds
# their residuals and in the regression on depth.
depth_floor <- 0.1

#' Patches of neighbouring spots, on whose scale things are called smooth
#'
#' @returns A list: `rows`, `starts` and `basis`, as Rust takes them, and `patch`, of each spot.
#' @noRd
new_patches <- function(input, call) {
  patches <- call_rust(rust_patches, unname(input$coords), sample_codes(input), call = call)
  sizes <- diff(patches$starts)
  patches$patch <- integer(input$n_spots)
  patches$patch[patches$rows + 1L] <- rep(seq_along(sizes), sizes)
  patches
}

#' The smooth part of a value of each spot: a linear function of the coordinates in each patch
#' @noRd
smooth_part <- function(patches, values) {
  rows <- patches$rows + 1L
  basis <- t(matrix(patches$basis, ncol = length(rows)))
  sums <- rowsum(basis * values[rows], patches$patch[rows], reorder = TRUE)
  smooth <- numeric(length(values))
  smooth[rows] <- rowSums(basis * sums[patches$patch[rows], , drop = FALSE])
  smooth
}

#' Depth as Rust takes it
#'
#' Plain vectors, which can be sent to other processes.
#'
#' @param size Size factors, by spot.
#' @param found What `find_size_factors()` knows of them; `NULL`: nothing.
#' @param depth What genes follow; the logarithm of `size` by default.
#' @param covariates Spots × covariates, orthonormal and orthogonal to the samples' means.
#' @noRd
new_depth <- function(input, patches, size, phi, found = NULL, depth = NULL, covariates = NULL) {
  sample <- sample_codes(input)
  floor <- depth_floor * vapply(split(size, sample), stats::median, numeric(1L), USE.NAMES = FALSE)
  nothing <- numeric(length(size))
  list(
    rows = patches$rows,
    starts = patches$starts,
    basis = patches$basis,
    size = size,
    depth = depth %||% log(pmax(size, floor[sample])),
    sample = sample,
    floor = floor,
    error = found$error %||% nothing,
    own = found$own %||% nothing,
    covariates = covariates %||% matrix(0, length(size), 0L),
    phi = phi
  )
}

#' How far some genes depart from being proportional to depth, in its rough and in its smooth part
#'
#' @param rates,weights Of all genes.
#' @param tick Is told how many genes were done.
#' @returns Two lists of vectors, `rough` and `smooth`; see the core's `Departure`.
#' @noRd
find_departures <- function(input, depth, genes, rates, weights, run, tick = no_tick) {
  parts <- lapply(gene_blocks(input), function(block) {
    block <- block[block %in% genes]
    if (length(block) == 0L) {
      return(NULL)
    }
    found <- call_rust(
      rust_departures,
      depth,
      as_counts(input_stored_block(input, block, run$call)),
      rates[, block, drop = FALSE],
      weights[block],
      run$threads,
      call = run$call
    )
    tick(length(block))
    found
  })
  parts <- parts[lengths(parts) > 0L]
  together <- \(which) do.call(Map, c(list(c), lapply(parts, `[[`, which)))
  list(rough = together("rough"), smooth = together("smooth"))
}

#' Counts as Rust takes them: a matrix, or the parts of a sparse one
#' @noRd
as_counts <- function(block) {
  if (is.matrix(block)) {
    return(block)
  }
  list(starts = block@p, rows = block@i, values = as.double(block@x))
}

#' The spread of genes' exponents around 1
#'
#' From the genes with a mean count above 0.2, a regular sample of them if they are many; from the richest 500
#' if they are few.
#'
#' @returns A list: `tau`, and what it was chosen from; see the core's `Spread`.
#' @noRd
find_spread <- function(input, summary, depth, rates, weights, run) {
  means <- colSums(summary$sums) / input$n_spots
  means[!summary$testable] <- 0
  genes <- which(means > 0.2)
  if (length(genes) < 500L) {
    genes <- sort(utils::head(order(-means), min(500L, sum(summary$testable))))
  }
  most <- max(500, min(5000, 2e8 / input$n_spots))
  if (length(genes) > most) {
    genes <- genes[unique(round(seq(1, length(genes), length.out = most)))]
  }
  tick <- progress_bar(run$progress, "Finding slopes on depth", length(genes))
  departures <- find_departures(input, depth, genes, rates, weights, run, tick)
  call_rust(rust_spread, departures$rough, departures$smooth, call = run$call)
}

#' A normalizer of counts beside depth; see `new_normalizer()`
#'
#' @param depth From `new_depth()`; `rates` and `weights` of all genes; `spread` from `find_spread()`.
#' @param regress What is regressed out of the residuals, from `new_regression()`.
#' @noRd
depth_normalizer <- function(depth, rates, weights, spread, regress = identity) {
  force(depth)
  force(rates)
  force(weights)
  force(spread)
  force(regress)
  # a call and no more: it is sent to workers with its code
  normalizer <- function(block, genes, threads = 1L) {
    beside_depth(block, genes, depth, rates, weights, spread, regress, threads)
  }
  structure(
    normalizer,
    combinations = \(groups) depth_combinations(depth, rates, weights, spread, regress, groups)
  )
}

#' A block's residuals beside depth and covariates; the attribute `explained` says which genes these explain
#' @noRd
beside_depth <- function(block, genes, depth, rates, weights, spread, regress, threads) {
  rates <- rates[, genes, drop = FALSE]
  residuals <- depth_residuals(depth, block, rates, weights[genes], spread, threads)
  if (ncol(depth$covariates) > 0L) {
    depth$covariates <- depth$covariates[, 0L, drop = FALSE]
    whole <- depth_residuals(depth, block, rates, weights[genes], list(tau = 0), threads)
    size <- \(x) colSums((x - rep(colMeans(x), each = nrow(x)))^2)
    explained <- size(residuals) <= 1e-20 * size(whole)
    explained[is.na(explained)] <- FALSE
    if (any(explained)) {
      attr(residuals, "explained") <- explained
    }
  }
  regress(residuals)
}

depth_residuals <- function(depth, block, rates, weights, spread, threads) {
  call_rust(
    rust_depth_residuals,
    depth,
    block,
    rates,
    weights,
    spread$tau,
    isTRUE(spread$rough_is_known),
    threads
  )
}

# Telling ---------------------------------------------------------------------------------------

# Depth is told of when so much of its variance is spatial, and that is sure: a narrow kernel can be the
# noise itself.
spatial_depth <- 0.2
sure_llr <- 5

#' What depth is like, and what was done about it
#'
#' @param prepared From `prepare()`; `fitter` from `prepare_fitter()`.
#' @returns `NULL` if nothing is known of depth, or a list: `fsv`, `llr` and `lengthscale` of the logarithm of
#'   the size factors (total counts for "anscombe"); `phi`; `treatment`; `size_factors`, their kind and their
#'   quantiles; `tau`, the spread of the genes' exponents, and its bounds; `anchors`, names of the genes that
#'   a panel's size factors were made from.
#' @noRd
describe_depth <- function(prepared, fitter) {
  normalizer <- prepared$normalizer
  found <- attr(normalizer, "found")
  if (is.null(found)) {
    return(NULL)
  }
  # a spot may have none where depth is only told of
  size <- pmax(found$size, min(found$size[found$size > 0]))
  settings <- prepared$settings
  treatment <- settings$depth
  if (treatment == "covariates" && is.null(settings$covariates)) {
    treatment <- "regression"
  }
  log_size <- matrix(log(size)[fitter$spots$order])
  constant <- stats::sd(log_size) < 1e-8
  fit <- if (!constant) {
    call_rust(rust_fit_genes, fitter$test, log_size, prepared$run$threads, call = prepared$run$call)
  }
  spread <- attr(normalizer, "spread")
  list(
    fsv = if (constant) 0 else fit$fsv,
    llr = if (constant) 0 else fit$llr,
    lengthscale = if (constant) NA_real_ else fitter$kernels$lengthscale[fit$kernel],
    phi = attr(normalizer, "phi"),
    treatment = treatment,
    size_factors = list(
      kind = found$kind,
      quantiles = stats::quantile(size / mean(size)),
      share = found$share
    ),
    tau = if (treatment == "shrunk") spread$tau,
    tau_bounds = if (treatment == "shrunk") c(rough = spread$rough, smooth = spread$smooth),
    anchors = if (!is.null(found$anchors)) prepared$input$genes[found$anchors]
  )
}

#' Say that depth is spatial, and what was done about it
#' @noRd
report_depth <- function(depth) {
  kind <- depth$size_factors$kind
  share <- depth$size_factors$share
  if (!is.null(share)) {
    inform_patina(c(
      i = "{.arg x} has {signif(100 * share, 2)} % of the counts in the sample table's column
        {.field total_counts}: a subset of the genes. Size factors are these totals;
        {.code size_factors = \"robust\"} makes them from the genes in {.arg x}."
    ))
  } else if (identical(kind, "sizeFactor")) {
    inform_patina(c(
      i = "{.arg x} has few genes, and size factors beside them, which are used (column {.field sizeFactor});
        {.code size_factors = \"robust\"} makes them from the genes in {.arg x}."
    ))
  }
  if (length(depth$anchors) > 0L) {
    inform_patina(c(
      i = "A tenth of the genes and more do not follow the total count where it varies smoothly: it shows
        which genes the panel has, not depth. Size factors come from {length(depth$anchors)} such gene{?s}:
        {.val {first_few(depth$anchors)}}."
    ))
  }
  if (!isTRUE(depth$fsv >= spatial_depth && (is.na(depth$llr) || depth$llr >= sure_llr))) {
    return(invisible())
  }
  done <- switch(
    depth$treatment,
    shrunk = sprintf(
      paste(
        "Its part was taken out of each gene, as far as genes were found to follow it",
        "(with exponents of 1 \u00b1 %.2f)."
      ),
      depth$tau
    ),
    regression = "Each gene was regressed on it: signal that goes along with depth is lost.",
    "Genes were taken to be proportional to it: one that is not may be called spatial."
  )
  what <- if (depth$size_factors$kind == "total") "total counts" else "size factors"
  spatial <- sprintf("Depth is itself spatial (fsv %.2f of the log of the %s).", depth$fsv, what)
  inform_patina(c(i = paste(spatial, done)))
}
