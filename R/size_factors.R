# Size factors: how many counts a spot yields, beside what its cells are.

#' Find the size factors of the spots
#'
#' @param input A `patina_input` of counts.
#' @param summary From `summarize_counts()`.
#' @param patches From `new_patches()`.
#' @param size_factors The user's: `NULL`, "robust", "total", "none", the name of a column or a vector.
#' @param run From `new_run()`.
#' @returns A list: `kind`, "robust", "total", "none", "given", "total_counts" or "sizeFactor"; `size`, above
#'   0 and 1 on average, by spot; what they owe to counts: `weights` by gene, and by spot `error`, the
#'   variance of their logarithms, and `own`, what one count of a gene of weight 1 adds to it; `phi`;
#'   `anchors`, see `find_anchors()`.
#' @noRd
find_size_factors <- function(input, summary, patches, size_factors, run) {
  known <- if (is.null(size_factors)) size_factors_beside(input, summary)
  robust <- identical(size_factors, "robust") || is.null(size_factors) && is.null(known)
  if (robust || identical(size_factors, "total")) {
    # size factors from elsewhere make a spot without counts of these genes a spot like others
    check_totals(summary$totals, input$spots, run$call)
  }
  if (robust) {
    return(robust_size_factors(input, summary, patches, run))
  }
  size_factors <- known$size %||% size_factors
  if (identical(size_factors, "total")) {
    phi <- max((summary$phi - summary$depth) / (1 + summary$depth), 0)
    size <- summary$totals / mean(summary$totals)
    weights <- as.double(summary$testable)
    return(counted_size_factors("total", input, summary, size, summary$totals, weights, phi))
  }
  none <- identical(size_factors, "none")
  size <- if (none) rep(1, input$n_spots) else given_size_factors(size_factors, input, run$call)
  tick <- progress_bar(run$progress, "Finding overdispersion", length(input$genes))
  fit <- weigh_counts(input, summary, exact_size(size), patches, 0, summary$testable, run, tick)
  nothing <- numeric(input$n_spots)
  list(
    kind = if (none) "none" else known$kind %||% "given",
    share = known$share,
    size = size / mean(size),
    weights = numeric(length(input$genes)),
    error = nothing,
    own = nothing,
    phi = fit$phi
  )
}

# Tables of whole transcriptomes have more genes than this.
whole_table <- 5000L

#' Size factors from all genes, where `x` has some of them
#'
#' The column `total_counts` of the sample table, if it says that there are more counts than those in `x`;
#' else the column `sizeFactor`, in which Bioconductor's classes keep their size factors, if `x` has too few
#' genes for a whole transcriptome.
#'
#' @returns `NULL`, or a list: `kind`, the name of the column; `size` by spot; `share`, the share of all
#'   counts that is in `x`, if known.
#' @noRd
size_factors_beside <- function(input, summary) {
  usable <- function(column) is_number(column) && all(is.finite(column) & column > 0)
  totals <- input$samples[["total_counts"]]
  if (usable(totals)) {
    share <- summary$totals / totals
    if (all(share <= 1 + 1e-6) && stats::median(share) < 0.95) {
      return(list(kind = "total_counts", size = totals, share = sum(summary$totals) / sum(totals)))
    }
  }
  size <- input$samples[["sizeFactor"]]
  if (length(input$genes) < whole_table && usable(size)) list(kind = "sizeFactor", size = size)
}

#' Size factors that a vector or a column of the sample table gives
#' @noRd
given_size_factors <- function(size_factors, input, call) {
  if (rlang::is_string(size_factors)) {
    if (!size_factors %in% names(input$samples)) {
      abort_patina(
        c(
          "{.arg size_factors} is {.val {size_factors}}: neither {.val robust}, {.val total} or {.val none}
            nor a column of the sample table.",
          i = if (ncol(input$samples) > 0L) {
            "Its columns are {.val {first_few(names(input$samples), 10L)}}."
          } else {
            "Give the table as {.arg sample_info}, or one number for each spot."
          }
        ),
        class = "argument",
        call = call
      )
    }
    size_factors <- input$samples[[size_factors]]
  }
  if (!is_number(size_factors) || length(size_factors) != input$n_spots) {
    abort_patina(
      "{.arg size_factors} must be {.val robust}, {.val total}, {.val none}, the name of a column of the
        sample table, or one number for each of the {input$n_spots} spots.",
      class = "argument",
      call = call
    )
  }
  if (!is.null(names_if_unique(size_factors))) {
    table <- data.frame(size = as.double(size_factors), row.names = names(size_factors))
    size_factors <- match_spots(table, input$spots, call, arg = "size_factors")$size
  }
  size_factors <- as.double(size_factors)
  bad <- which(!is.finite(size_factors) | size_factors <= 0)
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.arg size_factors} must be positive and finite, and {length(bad)} {?is/are} not:
          {.val {first_few(input$spots[bad])}}.",
        i = "Remove these spots from {.arg x} and {.arg coords}."
      ),
      class = "argument",
      call = call
    )
  }
  size_factors
}

# Weighted totals -------------------------------------------------------------------------------

# Weights and sizes are whole multiples of this: sums over genes and spots are exact, and the same in any
# order.
size_step <- 2^-20

# A panel has fewer genes than this.
panel_genes <- 500L

#' Totals in which each gene counts as much as it tells
#'
#' A gene of mean m whose counts vary by phi_g beside Poisson's tells depth with the variance 1 / m + phi_g:
#' it gets the weight 1 / (1 + phi_g m). phi_g is taken over spots and over patches of neighbours, whichever
#' is more, so that a gene with a pattern counts little, and one that dominates some spots next to nothing.
#' Two passes.
#' @noRd
robust_size_factors <- function(input, summary, patches, run) {
  refine <- function(among, totals) {
    fit <- list(totals = totals, phi = max((summary$phi - summary$depth) / (1 + summary$depth), 0))
    tick <- progress_bar(run$progress, "Finding size factors", 2 * length(input$genes))
    for (pass in 1:2) {
      fit <- weigh_counts(input, summary, exact_size(fit$totals), patches, fit$phi, among, run, tick)
    }
    size <- exact_size(fit$totals)
    counted_size_factors("robust", input, summary, size, fit$totals, fit$weights, fit$phi)
  }
  found <- refine(summary$testable, summary$totals)
  if (sum(summary$testable) >= panel_genes) {
    return(found)
  }
  anchors <- find_anchors(input, summary, found, patches, run)
  if (!is.null(anchors)) {
    among <- seq_along(input$genes) %in% anchors
    found <- refine(among, subset_totals(input, among))
    found$anchors <- anchors
  }
  found
}

#' Size factors that are made of counts
#'
#' @param size Size factors, proportional to `totals`, the weighted totals, in which genes have `weights`.
#' @noRd
counted_size_factors <- function(kind, input, summary, size, totals, weights, phi) {
  # a spot that has nothing of what counts
  totals <- pmax(totals, min(totals[totals > 0]))
  rates <- expected_rates(input, summary, size)
  sample <- sample_codes(input)
  poisson <- as.vector(rates %*% weights^2)[sample]
  excess <- as.vector(rates^2 %*% weights^2)[sample]
  list(
    kind = kind,
    size = size,
    weights = weights,
    error = (size * poisson + phi * size^2 * excess) / totals^2,
    own = 1 / totals,
    phi = phi
  )
}

#' Totals with a mean of 1, in steps that sums keep exactly
#' @noRd
exact_size <- function(totals) {
  totals <- pmax(totals, min(totals[totals > 0]))
  pmax(round(totals / mean(totals) / size_step), 1) * size_step
}

#' Each gene's expected count at a size factor of 1, in each sample: samples × genes
#' @noRd
expected_rates <- function(input, summary, size) {
  rates <- summary$sums / as.vector(rowsum(size, sample_codes(input)))
  rates[, !summary$testable] <- 0
  rates
}

#' One pass over counts: overdispersion and weight of each gene, and weighted totals
#'
#' @param size Size factors, from `exact_size()`.
#' @param phi The least overdispersion that a gene is given.
#' @param among Which genes count.
#' @param run From `new_run()`.
#' @param tick Is told how many genes were done.
#' @returns A list: `totals` by spot, `weights` by gene, and `phi`, what the genes share.
#' @noRd
weigh_counts <- function(input, summary, size, patches, phi, among, run, tick = no_tick) {
  n <- input$n_spots
  sample <- sample_codes(input)
  spots <- indicator(sample, size)
  patch_size <- as.vector(rowsum(size, patches$patch))
  patch_sums <- indicator(sample[match(seq_along(patch_size), patches$patch)], patch_size)
  rates <- expected_rates(input, summary, size)
  means <- colSums(summary$sums) / n

  # of counts in cells of these sizes, sample by sample
  excess <- function(squares, products, rates, sizes, by_sample) {
    cells <- length(sizes)
    second <- as.vector(by_sample %*% sizes)
    expected <- colSums(rates^2 * second)
    residual <- squares - 2 * colSums(rates * products) + expected
    residual <- residual * cells / max(cells - nrow(rates), 1)
    (residual - colSums(rates * Matrix::rowSums(by_sample))) / expected
  }

  weights <- numeric(length(input$genes))
  own <- rep(NA_real_, length(input$genes))
  totals <- numeric(n)
  for (genes in sparse_blocks(input)) {
    tick(length(genes))
    genes <- genes[among[genes]]
    if (length(genes) == 0L) {
      next
    }
    block <- input_stored_block(input, genes)
    rate <- rates[, genes, drop = FALSE]
    by_spot <- excess(summary$squares[genes], as.matrix(spots %*% block), rate, size, spots)
    in_patches <- call_rust(
      rust_group_sums,
      as_counts(block),
      patches$patch,
      length(patch_size),
      run$threads,
      call = run$call
    )
    by_patch <- excess(
      colSums(in_patches^2),
      as.matrix(patch_sums %*% in_patches),
      rate,
      patch_size,
      patch_sums
    )
    if (length(patch_size) < nrow(rate) + 3L) {
      by_patch[] <- 0
    }
    own[genes] <- by_spot
    most <- pmax(by_spot, by_patch * n / length(patch_size), phi)
    weights[genes] <- pmax(round(1 / (1 + most * means[genes]) / size_step), 1) * size_step
    totals <- totals + as.vector(block %*% weights[genes])
  }
  list(totals = totals, weights = weights, phi = shared_phi(own[among], means[among]))
}

#' The overdispersion that genes share
#'
#' The mean of the genes' own, weighted by how much each knows, winsorised at three standard deviations around
#' the weighted median.
#' @noRd
shared_phi <- function(own, means) {
  error <- 1 / means + 0.5
  weights <- 1 / error^2
  middle <- weighted_median(own, weights)
  scaled <- (own - middle) / error
  limit <- 3 * 1.4826 * weighted_median(abs(scaled), weights)
  scaled <- pmin(pmax(scaled, -limit), limit)
  max(middle + sum(weights * error * scaled) / sum(weights), 0)
}

weighted_median <- function(x, weights) {
  order <- order(x)
  sums <- cumsum(weights[order])
  x[order][which(sums >= sums[length(sums)] / 2)[1L]]
}

subset_totals <- function(input, among) {
  totals <- numeric(input$n_spots)
  for (genes in sparse_blocks(input)) {
    genes <- genes[among[genes]]
    if (length(genes) > 0L) {
      totals <- totals + Matrix::rowSums(input_stored_block(input, genes))
    }
  }
  totals
}

#' Which sample each spot belongs to, from 1
#' @noRd
sample_codes <- function(input) {
  as.integer(input$sample_id %||% rep(1L, input$n_spots))
}

#' Groups × members, a sparse matrix that adds up each group's values
#' @noRd
indicator <- function(group, values = 1) {
  Matrix::sparseMatrix(
    i = group,
    j = seq_along(group),
    x = rep_len(values, length(group)),
    dims = c(max(group), length(group))
  )
}

# Panels ----------------------------------------------------------------------------------------

# A gene's exponent is known well enough for the choice of anchors with this standard error; an anchor's is
# less than this; and so many of the genes whose exponents are known must be anchors.
anchor_error <- 0.25
anchor_exponent <- 0.3
anchor_share <- 0.1

#' Genes of a panel that do not follow the smooth part of its depth
#'
#' What makes spots yield more counts acts on all genes. Where a tenth of a panel's genes has nothing of the
#' smooth part of the size factors, that part is composition: the panel has many markers of one region.
#'
#' @param found Size factors.
#' @returns Indices of the anchors, or `NULL`.
#' @noRd
find_anchors <- function(input, summary, found, patches, run) {
  log_size <- log(found$size)
  smooth <- smooth_part(patches, log_size)
  depth <- new_depth(input, patches, exp(log_size - smooth), found$phi, depth = smooth)
  genes <- which(summary$testable)
  rates <- expected_rates(input, summary, exp(log_size - smooth))
  tick <- progress_bar(run$progress, "Looking for anchors", length(genes))
  departures <- find_departures(input, depth, genes, rates, numeric(length(input$genes)), run, tick)$smooth
  exponent <- departures$product / departures$signal
  error <- sqrt(departures$variance * departures$energy) / departures$signal
  known <- is.finite(exponent) & is.finite(error) & error < anchor_error
  anchors <- known & abs(exponent) < anchor_exponent
  if (sum(anchors) < max(5, anchor_share * sum(known))) {
    return(NULL)
  }
  genes[anchors]
}
