# Can genes be ranked by their fraction of spatial variance, and do its intervals have the truth in them?
#
# Draws from the model itself: 260 spots of a jittered lattice, SE kernels of several lengthscales (in spacings),
# fractions of spatial variance from 0 to 0.8; Gaussian noise, or counts as sparse as given.
#
#   Rscript bench/fsv.R [genes]
#
# prints the mean of `fsv`, of SpatialDE's (`fsv_spatialde`), the coverage and the mean width of the interval, and which share of the
# 5 % of all genes that rank first by either have p < 0.05; writes bench/results/fsv.csv. `genes` (200) for each row.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
n_genes <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 200L
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))

set.seed(20261124)
coords <- as.matrix(expand.grid(x = 1:20, y = 1:13)) + rnorm(520L, sd = 0.05)
n <- nrow(coords)
squares <- as.matrix(dist(coords))^2
centre <- function(k) mean(diag(k)) - mean(k)

draws <- function(lengthscale, fraction) {
  k <- exp(-squares / (2 * lengthscale^2))
  root <- chol(k + diag(1e-8, n))
  field <- crossprod(root, matrix(rnorm(n * n_genes), n)) / sqrt(centre(k))
  t(sqrt(fraction) * field + sqrt(1 - fraction) * matrix(rnorm(n * n_genes), n))
}

settings <- rbind(
  data.frame(lengthscale = 2, fraction = 0),
  expand.grid(lengthscale = c(1.5, 2.5, 5), fraction = c(0.1, 0.3, 0.8))
)
y <- do.call(rbind, Map(draws, settings$lengthscale, settings$fraction))
row <- rep(seq_len(nrow(settings)), each = n_genes)
run <- function(...) {
  spatial_test(y, coords, normalization = "none", threads = 1, progress = FALSE, ...)
}
test <- run()
lengthscales <- attr(test, "patina")$kernels$lengthscale
spatialde <- run(pval_method = "spatialde", lengthscales = lengthscales)
covered <- test$fsv_lower <= settings$fraction[row] & settings$fraction[row] <= test$fsv_upper
table <- cbind(
  settings,
  aggregate(
    data.frame(
      fsv = test$fsv,
      fsv_spatialde = spatialde$fsv,
      covered,
      width = test$fsv_upper - test$fsv_lower,
      p_0.05 = test$pval < 0.05
    ),
    list(row = row),
    \(x) round(mean(x), 3)
  )[-1L]
)
print(table, row.names = FALSE)
top <- function(fsv) mean(test$pval[order(-fsv)[seq_len(length(fsv) %/% 20L)]] < 0.05)
null <- row == 1L
cat(sprintf(
  "largest fsv of genes without pattern: %.2f, SpatialDE's %.2f\n",
  max(test$fsv[null]),
  max(spatialde$fsv[null])
))
cat(sprintf(
  "of the first 5 %%, p < 0.05: %.2f, by SpatialDE's fsv %.2f\n",
  top(test$fsv),
  top(spatialde$fsv)
))
write.csv(table, file.path(dirname(script), "results", "fsv.csv"), row.names = FALSE)
