# What spots in one place do to p-values, and what can be done about it.
#
# 260 spots of a jittered lattice, genes of negative binomial counts, a twentieth of them with a smooth pattern. Some spots are
# given twice: as copies (same place, same counts), or as replicates (same place, counts of their own). Three
# treatments: as they are (copies get a trace of noise, so that the package does not know them), each place once
# (what the package does with copies), and the mean of each place.
#
#   Rscript bench/copies.R [tissues]
#
# prints P(p <= 0.05) and P(p <= 0.001) of genes without pattern, and the power at a false discovery rate of 5 % of the others,
# and writes bench/results/copies.csv. `tissues` (10) is the number for each row. Under a minute on one core.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
n_tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 10L
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
n_genes <- 500L
n_spatial <- 25L
phi <- 0.2

draw <- function(mu) matrix(rnbinom(length(mu), size = 1 / phi, mu = mu), nrow(mu))

# Values that are ready to be tested: roots of counts, which have about the same variance everywhere.
ready <- function(counts) 2 / sqrt(phi) * asinh(sqrt(phi * counts))

run <- function(y, coords) {
  test <- suppressWarnings(
    spatial_test(y, coords, normalization = "none", threads = 1, progress = FALSE)
  )
  null <- test$pval[-seq_len(n_spatial)]
  found <- p.adjust(test$pval, "BH") <= 0.05
  c(
    p_0.05 = mean(null <= 0.05),
    p_0.001 = mean(null <= 0.001),
    power = mean(found[seq_len(n_spatial)]),
    fdp = sum(found[-seq_len(n_spatial)]) / max(sum(found), 1)
  )
}

tissue <- function(share, kind) {
  coords <- as.matrix(expand.grid(x = 1:20, y = 1:13)) + rnorm(520L, sd = 0.05)
  pattern <- sin(coords[, 1L] / 3 + runif(1L, 0, 6)) * cos(coords[, 2L] / 3)
  mu <- matrix(exp(runif(n_genes, log(0.1), log(20))), n_genes, 260L)
  mu[seq_len(n_spatial), ] <- mu[seq_len(n_spatial), ] * rep(exp(0.5 * pattern), each = n_spatial)
  again <- sort(sample(260L, round(share * 260)))
  counts <- draw(mu)
  second <- if (kind == "copies") counts[, again] else draw(mu[, again, drop = FALSE])
  first <- ready(counts)
  second <- ready(second)
  both <- first
  both[, again] <- (first[, again] + second) / 2
  trace <- matrix(rnorm(length(second), sd = 1e-6), n_genes)
  all <- cbind(first, second + trace)
  places <- rbind(coords, coords[again, , drop = FALSE])
  list(
    "as they are" = run(all, places),
    "each place once" = run(first, coords),
    "mean of each place" = run(both, coords)
  )
}

set.seed(20261124)
rows <- list()
for (kind in c("copies", "replicates")) {
  for (share in c(0.01, 0.1, 1)) {
    scores <- lapply(seq_len(n_tissues), \(i) tissue(share, kind))
    for (treatment in names(scores[[1L]])) {
      mean <- rowMeans(vapply(scores, `[[`, numeric(4L), treatment))
      rows[[length(rows) + 1L]] <- data.frame(kind, share, treatment, t(round(mean, 4)))
    }
  }
}
table <- do.call(rbind, rows)
print(table, row.names = FALSE)
write.csv(table, file.path(dirname(script), "results", "copies.csv"), row.names = FALSE, quote = 1:3)
