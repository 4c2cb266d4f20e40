# Level of the p-values of the grid engine, for genes from three counts to many, over many locations.
#
# Usage: Rscript bench/grid_calibration.R [folder] [threads]
#
# Scattered spots and a square lattice, 20,000 and 100,000 of them. Counts are drawn from depth alone, then their spots are
# permuted, again and again. Writes grid_calibration.csv, a row for each tissue and stratum of the genes' total counts, into
# the folder (default bench/results): P(p <= a) / a and its standard error. A quarter of an hour of one core.

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

arguments <- commandArgs(TRUE)
folder <- if (length(arguments) > 0L) arguments[1L] else file.path(dirname(this_script()), "results")
threads <- if (length(arguments) > 1L) as.integer(arguments[2L]) else parallel::detectCores()
file <- file.path(folder, "grid_calibration.csv")

levels <- c(0.05, 0.01, 0.001)
strata <- c(3, 10, 50, 200, Inf)
n_genes <- 1200L
n_fill <- 20L
steps <- asNamespace("patina")

# Genes × spots: a third of the genes has 200 counts and more, up to one in ten spots.
simulate <- function(n) {
  depth <- stats::rgamma(n, 10, 10)
  totals <- round(exp(c(
    stats::runif(n_genes * 2 / 3, log(3), log(200)),
    stats::runif(n_genes / 3, log(200), log(n / 10))
  )))
  spots <- lapply(totals, \(total) sample.int(n, total, replace = TRUE, prob = depth))
  counts <- Matrix::sparseMatrix(
    i = rep(seq_along(totals), totals),
    j = unlist(spots),
    x = 1,
    dims = c(length(totals), n)
  )
  # Genes of depth alone, so that each spot has counts enough.
  depth_only <- matrix(as.double(stats::rpois(n_fill * n, rep(depth, each = n_fill))) + 1, n_fill)
  counts <- rbind(methods::as(depth_only, "CsparseMatrix"), counts)
  rownames(counts) <- paste0("g", seq_len(nrow(counts)))
  counts
}

place <- function(n, layout) {
  side <- sqrt(n)
  if (layout == "scattered") {
    return(data.frame(x = stats::runif(n, 0, side), y = stats::runif(n, 0, side)))
  }
  width <- ceiling(side)
  data.frame(x = (seq_len(n) - 1) %% width, y = (seq_len(n) - 1) %/% width)
}

run <- function(n, layout, permutations) {
  set.seed(n)
  counts <- simulate(n)
  totals <- Matrix::rowSums(counts)[-seq_len(n_fill)]
  coords <- place(n, layout)
  context <- steps$new_run(threads)
  fitter <- NULL
  pval <- lapply(seq_len(permutations), function(permutation) {
    input <- steps$as_input(counts[, sample.int(n)], coords)
    normalizer <- steps$new_normalizer(input, steps$new_settings(), context)
    if (is.null(fitter)) {
      kernels <- steps$kernel_table("SE", NULL, input, NULL)
      fitter <<- steps$prepare_fitter(input, kernels, TRUE, "auto", context, "auto")
    }
    fits <- steps$fit_genes(fitter, list(input = input, normalizer = normalizer, run = context))
    fits$pval[-seq_len(n_fill)]
  })
  pval <- unlist(pval)
  stratum <- rep(cut(totals, strata, right = FALSE), permutations)
  rows <- lapply(levels(stratum), function(own) {
    p <- pval[stratum == own & !is.na(pval)]
    share <- vapply(levels, \(a) mean(p <= a), 0)
    data.frame(
      layout = layout,
      spots = n,
      counts = own,
      tests = length(p),
      t(stats::setNames(round(share / levels, 3), paste0("at_", levels))),
      t(stats::setNames(round(sqrt(levels * (1 - levels) / length(p)) / levels, 3), paste0("se_", levels)))
    )
  })
  do.call(rbind, rows)
}

cases <- data.frame(n = c(20000L, 20000L, 100000L, 100000L), layout = c("scattered", "square"))
table <- NULL
for (i in seq_len(nrow(cases))) {
  permutations <- if (cases$n[i] > 50000L) 8L else 25L
  table <- rbind(table, run(cases$n[i], cases$layout[i], permutations))
  utils::write.csv(table, file, row.names = FALSE, quote = TRUE)
}
print(table, row.names = FALSE)
