# The olfactory bulb as a user runs it: from residuals, and from counts, to the tibble, beside the products
# that nobody can do without (the genes' projections on the eigenvectors of ten kernels).
#
# Usage: Rscript bench/whole_call.R [threads]
# The data are downloaded, unless PATINA_DATA is a folder that has them.

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

arguments <- commandArgs(TRUE)
threads <- if (length(arguments) > 0L) as.integer(arguments[1L]) else parallel::detectCores()
mob <- load_dataset("mob")
counts <- mob$counts[Matrix::rowSums(mob$counts) >= 3, ]
info <- mob$sample_info
info$total_counts <- Matrix::colSums(counts)
coords <- info[c("x", "y")]
residuals <- regress_out(stabilize(counts), info, ~ log(total_counts))
before <- peak_memory()

runs <- lapply(1:3, function(run) {
  rbind(
    residuals = timed(spatial_test(
      residuals,
      coords,
      normalization = "none",
      threads = threads,
      progress = FALSE
    )),
    `residuals, SpatialDE's p-values` = timed(spatial_test(
      residuals,
      coords,
      normalization = "none",
      pval_method = "spatialde",
      threads = threads,
      progress = FALSE
    )),
    counts = timed(spatial_test(counts, coords, threads = threads, progress = FALSE))
  )
})
vectors <- matrix(stats::rnorm(ncol(residuals)^2), ncol(residuals))
floor <- timed(residuals %*% vectors) * 10
best <- rbind(Reduce(pmin, runs), `products, by R's BLAS` = floor)
cat(sprintf(
  "%d genes x %d spots, %d threads, best of %d runs\n",
  nrow(counts),
  ncol(counts),
  threads,
  length(runs)
))
print(round(best, 3))
products <- 10 * 2 * nrow(counts) * ncol(counts)^2 / 1e9
cat(sprintf("The products are %.1f GFLOP; `cargo bench` times them as Rust does them.\n", products))
cat(sprintf("Peak memory %.0f MB, of which %.0f before the first call.\n", peak_memory(), before))
