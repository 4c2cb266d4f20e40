# Lengthscale and fraction of spatial variance by moments and by the likelihood, for genes drawn from the model.
#
# Usage: Rscript bench/moments.R [folder] [threads]
#
# 2,000 scattered spots, one in a unit of area; for each true lengthscale and fraction 40 genes. Writes moments.csv, a
# row for each fraction and way to fit, into the folder (default bench/results).

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

arguments <- commandArgs(TRUE)
folder <- if (length(arguments) > 0L) arguments[1L] else file.path(dirname(this_script()), "results")
threads <- if (length(arguments) > 1L) as.integer(arguments[2L]) else parallel::detectCores()

set.seed(71)
n <- 2000L
copies <- 40L
side <- sqrt(n)
coords <- data.frame(x = stats::runif(n, 0, side), y = stats::runif(n, 0, side))
squared <- as.matrix(stats::dist(coords))^2
true <- expand.grid(copy = seq_len(copies), lengthscale = c(2, 5, 10), fsv = c(0.05, 0.1, 0.3, 0.6))
y <- matrix(0, nrow(true), n)
for (lengthscale in unique(true$lengthscale)) {
  kernel <- exp(-0.5 * squared / lengthscale^2)
  # what the sample's mean takes of the variance does not count as spatial
  gower <- (n - sum(kernel) / n) / (n - 1)
  root <- chol(kernel + diag(1e-8, n))
  genes <- which(true$lengthscale == lengthscale)
  smooth <- matrix(stats::rnorm(length(genes) * n), length(genes)) %*% root / sqrt(gower)
  share <- true$fsv[genes]
  noise <- matrix(stats::rnorm(length(genes) * n), length(genes))
  y[genes, ] <- sqrt(share) * smooth + sqrt(1 - share) * noise
}
rownames(y) <- paste0("g", seq_len(nrow(y)))
test <- function(fit) {
  spatial_test(y, coords, normalization = "none", fit = fit, threads = threads, progress = FALSE)
}
fits <- list(likelihood = test("likelihood"), moments = test("moments"))
rows <- lapply(unique(true$fsv), function(fsv) {
  of <- true$fsv == fsv
  own <- lapply(names(fits), function(way) {
    fit <- fits[[way]][of, ]
    octaves <- log2(fit$lengthscale / true$lengthscale[of])
    data.frame(
      fsv = fsv,
      fit = way,
      genes = sum(of),
      found = sum(fit$qval < 0.05),
      fsv_bias = mean(fit$fsv - fsv),
      fsv_sd = stats::sd(fit$fsv - fsv),
      lengthscale_bias = mean(octaves),
      lengthscale_sd = stats::sd(octaves),
      rank_correlation = stats::cor(fit$fsv, fits$likelihood$fsv[of], method = "spearman"),
      p_correlation = stats::cor(fit$log10_pval, fits$likelihood$log10_pval[of], method = "spearman"),
      log_p_within_tenth = mean(abs(fit$log10_pval / fits$likelihood$log10_pval[of] - 1) < 0.1)
    )
  })
  do.call(rbind, own)
})
table <- do.call(rbind, rows)
number <- vapply(table, is.numeric, logical(1L))
table[number] <- round(table[number], 3)
utils::write.csv(table, file.path(folder, "moments.csv"), row.names = FALSE, quote = FALSE)
print(table, row.names = FALSE)
