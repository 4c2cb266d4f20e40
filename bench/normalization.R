# How depth is best taken out: level, power and false discoveries of each treatment, in simulated tissues.
#
# Counts are negative binomial (overdispersion 0.2) over spots whose depth is smooth, rough, or both, and
# genes follow
# it with exponents of their own. Every treatment is the package's own, with what it fits; kernels are
# decomposed once
# for all tissues over the same locations.
#
#   Rscript bench/normalization.R [tissues [part ...]]
#
# prints a table for each part (level, power, size_factors, panel, large) and writes
# bench/results/normalization.csv.
# The results are the same on every run; `tissues` (4) is the number of tissues for each row.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
n_tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 4L
parts <- if (length(arguments) > 1L) {
  arguments[-1L]
} else {
  c("level", "power", "other", "size_factors", "panel", "junk")
}
folder <- file.path(
  dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))),
  "results"
)
ns <- asNamespace("patina")

overdispersion <- 0.2
treatments <- list(
  `total, regression` = list(size_factors = "total", depth = "regression"),
  `total, offset` = list(size_factors = "total", depth = "offset"),
  `robust, regression` = list(depth = "regression"),
  `robust, offset` = list(depth = "offset"),
  `robust, shrunk` = list()
)

# Simulation --------------------------------------------------------------------------------------

# 260 spots on a square grid with some jitter, like those of the first spatial arrays; more on a hexagonal
# grid. All are
# discs, neighbours about 1 apart.
places <- function(n) {
  side <- -80:80
  grid <- expand.grid(x = side, y = side)
  if (n < 500) {
    grid <- grid + rnorm(length(side)^2 * 2, sd = 0.05)
  } else {
    grid$x <- grid$x + (grid$y %% 2) / 2
    grid$y <- grid$y * sqrt(3) / 2
  }
  as.matrix(grid[order(grid$x^2 + grid$y^2)[seq_len(n)], ])
}

width <- function(coords) diff(range(coords[, 1L]))

# A smooth random function of mean 0 and standard deviation 1: random Fourier features of a squared
# exponential kernel.
field <- function(coords, lengthscale = width(coords) / 5) {
  features <- 200L
  frequencies <- matrix(rnorm(2 * features), 2L) / lengthscale
  phases <- rep(runif(features, 0, 2 * pi), each = nrow(coords))
  as.vector(scale(cos(coords %*% frequencies + phases) %*% rnorm(features)))
}

# Fields of several lengthscales, a gradient, a hotspot, a region.
any_pattern <- function(coords) {
  angle <- runif(1, 0, 2 * pi)
  along <- coords %*% c(cos(angle), sin(angle))
  spot <- coords[sample(nrow(coords), 1L), ]
  pattern <- switch(
    sample(6L, 1L),
    field(coords),
    field(coords, width(coords) / 10),
    field(coords, 2),
    along,
    exp(-colSums((t(coords) - spot)^2) / (2 * (width(coords) / 8)^2)),
    sign(along - runif(1, -width(coords) / 4, width(coords) / 4))
  )
  as.vector(scale(pattern))
}

right_side <- function(coords) as.numeric(coords[, 1L] > 0)

# Genes × spots. `pattern` gives the log fold change of each spatial gene.
simulate <- function(
  coords,
  log_depth,
  exponent_sd = 0,
  share = 0.1,
  pattern = \(coords) 0.5 * any_pattern(coords),
  means = exp(rnorm(1500, log(0.7), 1.5))
) {
  exponents <- 1 + exponent_sd * rnorm(length(means))
  spatial <- runif(length(means)) < share
  log_mean <- outer(exponents, log_depth)
  for (gene in which(spatial)) {
    log_mean[gene, ] <- log_mean[gene, ] + pattern(coords)
  }
  mu <- exp(log_mean)
  mu <- mu / rowMeans(mu) * means
  counts <- matrix(rnbinom(length(mu), size = 1 / overdispersion, mu = mu), length(means))
  list(counts = counts, spatial = spatial)
}

# Test --------------------------------------------------------------------------------------------

# The test of a tissue at these locations under each treatment.
tester <- function(coords, lengthscales = NULL) {
  run <- ns$new_run(1L)
  input <- ns$as_input(matrix(0, 1L, nrow(coords)), coords)
  kernels <- ns$kernel_table("SE", lengthscales, input, NULL)
  fitter <- ns$prepare_fitter(input, kernels, TRUE, "auto", run)
  function(counts, treatment) {
    settings <- do.call(ns$new_settings, treatment)
    prepared <- suppressWarnings(suppressMessages(
      ns$prepare(counts, coords, "counts", list(), NULL, NULL, settings, run)
    ))
    fits <- ns$fit_genes(fitter, prepared)
    list(pval = fits$pval, tau = attr(prepared$normalizer, "spread")$tau)
  }
}

outcome <- function(test, tissue, name) {
  result <- test(tissue$counts, treatments[[name]])
  tested <- !is.na(result$pval)
  pval <- result$pval[tested]
  spatial <- tissue$spatial[tested]
  rich <- rowMeans(tissue$counts)[tested] >= 1
  hit <- p.adjust(pval, "BH") <= 0.05
  data.frame(
    treatment = name,
    null_genes = sum(!spatial),
    p_0.05 = mean(pval[!spatial] <= 0.05),
    rich_genes = sum(!spatial & rich),
    rich_0.05 = mean(pval[!spatial & rich] <= 0.05),
    rich_0.01 = mean(pval[!spatial & rich] <= 0.01),
    power = if (any(spatial)) mean(hit[spatial]) else NA,
    power_rich = if (any(spatial & rich)) mean(hit[spatial & rich]) else NA,
    fdp = sum(hit & !spatial) / max(sum(hit), 1),
    hits = sum(hit),
    tau = result$tau
  )
}

# A row for each treatment: means over tissues.
study <- function(part, design, n, tissue, n_tissues, lengthscales = NULL, seed = 20180319) {
  set.seed(seed)
  coords <- places(n)
  test <- tester(coords, lengthscales)
  outcomes <- lapply(seq_len(n_tissues), function(i) {
    tissue <- tissue(coords)
    do.call(rbind, lapply(names(treatments), \(name) outcome(test, tissue, name)))
  })
  all <- do.call(rbind, outcomes)
  sums <- c("null_genes", "rich_genes")
  rows <- lapply(names(treatments), function(name) {
    of <- all[all$treatment == name, -1L]
    values <- lapply(names(of), \(column) if (column %in% sums) sum(of[[column]]) else mean(of[[column]]))
    data.frame(part, design, n, tissues = n_tissues, treatment = name, setNames(values, names(of)))
  })
  rows <- do.call(rbind, rows)
  shown <- rows[c("treatment", "p_0.05", "rich_0.05", "rich_0.01", "power", "power_rich", "fdp", "tau")]
  cat(sprintf("\n%s; n = %d\n", design, n))
  shown[-1L] <- round(shown[-1L], 3)
  print(shown, row.names = FALSE)
  rows
}

# Designs -----------------------------------------------------------------------------------------

depth_of <- function(coords, smooth, rough) {
  smooth * field(coords) + rough * rnorm(nrow(coords))
}

level_or_power <- function(
  n,
  n_tissues,
  lengthscales = NULL,
  genes = 1500L,
  sds = c(0, 0.1, 0.2),
  roughs = c(0, 0.1, 0.3)
) {
  rows <- list()
  for (sd in sds) {
    for (rough in roughs) {
      rows[[length(rows) + 1L]] <- study(
        "level",
        sprintf("depth smooth .5, rough %g; exponents' sd %g", rough, sd),
        n,
        \(coords) {
          simulate(coords, depth_of(coords, 0.5, rough), sd, means = exp(rnorm(genes, log(0.7), 1.5)))
        },
        n_tissues,
        lengthscales
      )
    }
  }
  rows
}

designs <- list(
  level = function() level_or_power(260, n_tissues),
  medium = function() level_or_power(600, max(n_tissues %/% 2L, 1L)),
  large = function() {
    level_or_power(3600, 1L, c(4, 8, 16, 32), 800L, c(0, 0.1, 0.2), c(0, 0.1, 0.3))
  },
  other = function() {
    rows <- list()
    for (sd in c(0, 0.1, 0.2)) {
      rows <- c(
        rows,
        list(
          study(
            "other",
            sprintf("depth rough .3 only; exponents' sd %g", sd),
            260,
            \(coords) {
              simulate(coords, 0.3 * rnorm(nrow(coords)), sd)
            },
            n_tissues
          ),
          study(
            "other",
            sprintf("depth smooth .9, no spatial gene; exponents' sd %g", sd),
            260,
            \(coords) {
              simulate(coords, 0.9 * field(coords), sd, share = 0)
            },
            n_tissues
          ),
          study(
            "other",
            sprintf("depth fine (lengthscale 2) .3; exponents' sd %g", sd),
            260,
            \(coords) {
              simulate(coords, 0.3 * field(coords, 2), sd)
            },
            n_tissues
          ),
          study(
            "other",
            sprintf("a side of twice the depth, rough .1; exponents' sd %g", sd),
            260,
            \(coords) {
              simulate(coords, log(2) * right_side(coords) + 0.1 * rnorm(nrow(coords)), sd)
            },
            n_tissues
          ),
          study(
            "other",
            sprintf("cells of 100 counts, depth smooth .5, rough .3; exponents' sd %g", sd),
            600,
            \(coords) {
              simulate(coords, depth_of(coords, 0.5, 0.3), sd, means = exp(rnorm(500, log(0.1), 1.2)))
            },
            n_tissues
          )
        )
      )
    }
    rows
  },
  power = function() {
    rows <- list()
    for (rough in c(0, 0.1, 0.3)) {
      rows <- c(
        rows,
        list(
          study(
            "power",
            sprintf("a tenth of the genes e-fold on one side; depth rough %g", rough),
            260,
            \(coords) {
              simulate(coords, rough * rnorm(nrow(coords)), pattern = right_side)
            },
            n_tissues
          ),
          study(
            "power",
            sprintf("a tenth of the genes with depth's pattern (.4); depth smooth .5, rough %g", rough),
            260,
            \(coords) {
              pattern <- field(coords)
              simulate(coords, 0.5 * pattern + rough * rnorm(nrow(coords)), pattern = \(coords) 0.4 * pattern)
            },
            n_tissues
          ),
          study(
            "power",
            sprintf("two fifths of the genes with depth's pattern (.4); depth smooth .5, rough %g", rough),
            260,
            \(coords) {
              pattern <- field(coords)
              simulate(coords, 0.5 * pattern + rough * rnorm(nrow(coords)), share = 0.4, pattern = \(coords) {
                0.4 * pattern
              })
            },
            n_tissues
          )
        )
      )
    }
    rows
  },
  size_factors = function() {
    lapply(c(0.1, 0.2, 0.4), function(share) {
      study(
        "size_factors",
        sprintf("one gene has %g of the counts, in a third of the tissue; depth rough .3", share),
        260,
        \(coords) {
          tissue <- simulate(coords, 0.3 * rnorm(nrow(coords)), share = 0)
          third <- rank(coords[, 1L]) <= nrow(coords) / 3
          totals <- colSums(tissue$counts)
          # a third of the spots have its counts
          mu <- ifelse(third, totals * 3 * share / (1 - share), 0.5)
          list(
            counts = rbind(tissue$counts, rnbinom(length(mu), size = 1 / overdispersion, mu = mu)),
            spatial = c(tissue$spatial, TRUE)
          )
        },
        n_tissues
      )
    })
  },
  panel = function() {
    rows <- list()
    for (markers in c(0.5, 0.6, 0.7, 0.8, 0.9)) {
      for (rough in c(0.1, 0.3)) {
        rows[[length(rows) + 1L]] <- study(
          "panel",
          sprintf("300 genes, %g of them markers of one side (e-fold); depth rough %g", markers, rough),
          260,
          \(coords) {
            simulate(
              coords,
              rough * rnorm(nrow(coords)),
              share = markers,
              pattern = right_side,
              means = exp(rnorm(300, 0, 1.2))
            )
          },
          n_tissues
        )
      }
    }
    for (sd in c(0, 0.1, 0.2)) {
      rows[[length(rows) + 1L]] <- study(
        "panel",
        sprintf("300 genes, depth smooth .5, rough .1; exponents' sd %g", sd),
        260,
        \(coords) simulate(coords, depth_of(coords, 0.5, 0.1), sd, means = exp(rnorm(300, 0, 1.2))),
        2L * n_tissues
      )
    }
    rows
  },
  junk = function() {
    lapply(c(0, 2), function(junk) {
      study(
        "junk",
        sprintf("%d spots with hardly any counts; depth rough .3", junk),
        260,
        \(coords) {
          log_depth <- 0.3 * rnorm(nrow(coords))
          log_depth[seq_len(junk)] <- log_depth[seq_len(junk)] - 7
          tissue <- simulate(coords, log_depth)
          empty <- which(colSums(tissue$counts) == 0)
          tissue$counts[1L, empty] <- 1
          tissue
        },
        n_tissues
      )
    })
  }
)

rows <- unlist(lapply(parts, \(part) designs[[part]]()), recursive = FALSE)
table <- do.call(rbind, rows)
rounded <- vapply(table, is.double, logical(1L))
table[rounded] <- lapply(table[rounded], round, digits = 4L)
dir.create(folder, showWarnings = FALSE)
path <- file.path(folder, "normalization.csv")
if (file.exists(path)) {
  # what was not run this time stays
  old <- read.csv(path, check.names = FALSE)
  table <- rbind(old[!paste(old$part, old$n) %in% paste(table$part, table$n), ], table)
}
write.csv(table, path, row.names = FALSE)
