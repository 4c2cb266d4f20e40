# What each normalization makes of depth that varies over the tissue.
#
# Permuting locations breaks the link of depth and position, so p-values that are uniform under
# permutation say nothing of a gene that follows its spots' totals. Here tissues are simulated whose
# totals are smooth over space while no gene has a pattern of its own (level), and others with genes
# that have one, like the totals or unlike them (power). Each is prepared by the package's own
# functions, with the overdispersion that they fit.
#
#   Rscript bench/depth.R [tissues]
#
# prints P(p <= 0.05 / 0.01 / 0.001) and writes bench/results/depth.csv. The results are the same on
# every run; `tissues` (10) is the number of depth fields for each row of the table. About 2 minutes
# on one core.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
n_tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 10L
folder <- file.path(
  dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))),
  "results"
)

sd_log_depth <- 0.92
overdispersion <- 0.2
genes_per_tissue <- 1500L
strata <- c(10, 50, 200, 1000)
stratum_names <- c("10-50", "50-200", "200-1000")
# log fold change for one standard deviation of the pattern, by total: power is neither 0 nor 1
effects <- list(
  "260" = c("30" = 1.2, "100" = 0.7, "1000" = 0.35),
  "1000" = c("30" = 1, "100" = 0.5, "1000" = 0.2)
)

preparations <- list(
  anscombe = list("anscombe", NULL),
  "anscombe cubic" = list("anscombe", ~ poly(log(total_counts), 3)),
  pearson = list("pearson", NULL)
)

# Simulation --------------------------------------------------------------------------------------

# 260 spots on a square grid with some jitter, like those of the first spatial arrays; 1,000 on a
# hexagonal grid. Both are discs, neighbours about 1 apart.
places <- function(n) {
  side <- -30:30
  grid <- expand.grid(x = side, y = side)
  if (n < 1000) {
    grid <- grid + rnorm(length(side)^2 * 2, sd = 0.05)
  } else {
    grid$x <- grid$x + (grid$y %% 2) / 2
    grid$y <- grid$y * sqrt(3) / 2
  }
  inside <- order(grid$x^2 + grid$y^2)[seq_len(n)]
  grid[inside, ]
}

# A smooth random function with mean 0 and standard deviation 1; its lengthscale is a fifth of the
# tissue's width.
field_sampler <- function(coords) {
  lengthscale <- diff(range(coords$x)) / 5
  covariance <- exp(-as.matrix(dist(coords))^2 / (2 * lengthscale^2))
  root <- eigen(covariance, symmetric = TRUE)
  root <- root$vectors %*% diag(sqrt(pmax(root$values, 0)))
  function() as.vector(scale(root %*% rnorm(nrow(coords))))
}

# Genes × spots. A spot's total is made by 200 rich genes, which follow its depth; the other genes
# have the expected totals asked for and follow depth^exponent times a pattern.
simulate_tissue <- function(log_depth, totals, exponent = 1, log_pattern = 0) {
  n <- length(log_depth)
  counts <- function(totals, log_mean) {
    share <- exp(log_mean - max(log_mean))
    mu <- outer(totals, share / sum(share))
    matrix(rnbinom(length(mu), size = 1 / overdispersion, mu = mu), length(totals))
  }
  background <- counts(n * exp(rnorm(200, log(10))), log_depth)
  rbind(counts(totals, exponent * log_depth + log_pattern), background)
}

# Test --------------------------------------------------------------------------------------------

# A function for the p-values of a tissue's first `genes` genes, as spatial_test() gives them; kernels are
# decomposed once for all tissues, since their locations are the same.
tester <- function(coords) {
  ns <- asNamespace("patina")
  run <- ns$new_run(NULL)
  kernels <- ns$kernel_table("SE", NULL, ns$as_input(matrix(0, 1L, nrow(coords)), coords), NULL)
  fitter <- ns$prepare_fitter(ns$as_input(matrix(0, 1L, nrow(coords)), coords), kernels, TRUE, "auto", run)
  function(counts, genes, preparation) {
    settings <- ns$new_settings(preparation[[1L]], preparation[[2L]])
    prepared <- ns$prepare(counts, coords, "counts", list(), NULL, NULL, settings, run)
    fits <- ns$fit_genes(fitter, prepared, seq_len(genes))
    list(pval = fits$pval, phi = attr(prepared$normalizer, "phi"))
  }
}

# All preparations of one tissue: a row for each gene that is asked for.
test_tissue <- function(test, counts, genes, ...) {
  tested <- lapply(names(preparations), function(name) {
    result <- test(counts, genes, preparations[[name]])
    data.frame(..., preparation = name, phi = result$phi, pval = result$pval)
  })
  do.call(rbind, tested)
}

run <- function(n) {
  coords <- places(n)
  field <- field_sampler(coords)
  test <- tester(coords)

  level <- lapply(seq_len(n_tissues), function(tissue) {
    depth <- sd_log_depth * field()
    settings <- list(
      list(depth = "shuffled", log_depth = sample(depth), exponent = 1),
      list(depth = "smooth", log_depth = depth, exponent = 1),
      list(depth = "smooth", log_depth = depth, exponent = 0.8)
    )
    lapply(settings, function(setting) {
      totals <- exp(runif(genes_per_tissue, log(min(strata)), log(max(strata))))
      counts <- simulate_tissue(setting$log_depth, totals, setting$exponent)
      observed <- rowSums(counts[seq_along(totals), ])
      stratum <- cut(observed, strata, stratum_names, right = FALSE)
      test_tissue(
        test,
        counts,
        length(totals),
        study = "level",
        n = n,
        depth = setting$depth,
        detail = sprintf("depth^%g", setting$exponent),
        totals = as.character(stratum)
      )
    })
  })

  power <- lapply(seq_len(n_tissues), function(tissue) {
    depth <- field()
    effect <- effects[[as.character(n)]]
    lapply(c(0.8, 0), function(correlation) {
      other <- field()
      other <- as.vector(scale(residuals(lm(other ~ depth))))
      pattern <- correlation * depth + sqrt(1 - correlation^2) * other
      lapply(names(effect), function(total) {
        totals <- rep(as.numeric(total), 150L)
        counts <- simulate_tissue(
          sd_log_depth * depth,
          totals,
          log_pattern = effect[[total]] * pattern
        )
        test_tissue(
          test,
          counts,
          length(totals),
          study = "power",
          n = n,
          depth = "smooth",
          detail = sprintf("correlation %g", correlation),
          totals = total
        )
      })
    })
  })
  tests <- c(unlist(level, recursive = FALSE), unlist(unlist(power, FALSE), FALSE))
  do.call(rbind, tests)
}

# Table -------------------------------------------------------------------------------------------

set.seed(20180319)
tests <- do.call(rbind, lapply(c(260, 1000), run))
# outside of the strata are genes with a total of 0, too
tests <- tests[!is.na(tests$totals), ]
stopifnot(!anyNA(tests$pval))
tests$totals <- factor(tests$totals, c(stratum_names, names(effects[[1L]])))
columns <- c("study", "n", "depth", "detail", "totals", "preparation")
cells <- lapply(tests[columns], \(x) factor(x, if (is.factor(x)) levels(x) else unique(x)))
cells <- split(tests, cells, drop = TRUE, lex.order = TRUE)
table <- do.call(
  rbind,
  lapply(cells, function(cell) {
    below <- vapply(c(0.05, 0.01, 0.001), \(alpha) mean(cell$pval <= alpha), numeric(1L))
    data.frame(
      cell[1L, columns],
      genes = nrow(cell),
      phi = round(mean(cell$phi), 3),
      p_0.05 = round(below[[1L]], 4),
      p_0.01 = round(below[[2L]], 4),
      p_0.001 = round(below[[3L]], 5)
    )
  })
)
cat(sprintf(
  "P(p <= alpha); sd of log depth %g, phi = %g, %d tissues for each row\n",
  sd_log_depth,
  overdispersion,
  n_tissues
))
cat("level: genes without pattern, mean ~ depth^1 or depth^0.8\n")
cat("power: genes with a pattern of this correlation with log(depth)\n\n")
options(width = 120)
print(table, row.names = FALSE)
dir.create(folder, showWarnings = FALSE)
write.csv(table, file.path(folder, "depth.csv"), row.names = FALSE, quote = FALSE)
