# Level of the p-values of the grid engine, for genes from three counts to many, over many locations.
#
# Usage: Rscript bench/grid_calibration.R [layout] [spots] [folder] [threads] [passes]
#
# Scattered spots and a square lattice, 20,000 and 100,000 of them, or those of one layout and number. Genes
# have counts that depend on depth alone, as many genes in each stratum of total counts as keep the standard
# error at 0.01 below a tenth, and four times as many over 20,000 spots, and where `passes` says so: a pass is
# 2,500 genes.
# Writes grid_calibration.csv, a row for each tissue and stratum, into the folder (default bench/results):
# P(p <= a) / a and its standard error. Rows that are there already are not computed again. Half an hour of
# one core.

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

arguments <- commandArgs(TRUE)
argument <- function(k, default) if (length(arguments) >= k) arguments[[k]] else default
layouts <- argument(1L, c("scattered", "square"))
sizes <- as.integer(argument(2L, c(20000L, 100000L)))
file <- file.path(argument(3L, file.path(dirname(this_script()), "results")), "grid_calibration.csv")
threads <- as.integer(argument(4L, parallel::detectCores()))

levels <- c(0.05, 0.01, 0.001)
strata <- c(3, 10, 50, 200, Inf)
n_genes <- 2500L
passes <- \(n) as.integer(argument(5L, if (n > 50000L) 4L else 16L))
n_fill <- 20L
steps <- asNamespace("patina")

# Genes × spots, with totals within one stratum, up to one count in ten spots.
simulate <- function(n, from, to) {
  depth <- stats::rgamma(n, 10, 10)
  totals <- floor(exp(stats::runif(n_genes, log(from), log(min(to, n / 10)))))
  spots <- lapply(totals, \(total) sample.int(n, total, replace = TRUE, prob = depth))
  counts <- Matrix::sparseMatrix(
    i = rep(seq_along(totals), totals),
    j = unlist(spots),
    x = 1,
    dims = c(n_genes, n)
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

# p-values of all passes; the kernels are made ready once.
p_values <- function(n, coords, stratum, state) {
  pval <- lapply(seq_len(passes(n)), function(pass) {
    input <- steps$as_input(simulate(n, strata[stratum], strata[stratum + 1L]), coords)
    normalizer <- steps$new_normalizer(input, steps$new_settings(), state$run)
    if (is.null(state$fitter)) {
      kernels <- steps$kernel_table("SE", NULL, input, NULL)
      state$fitter <- steps$prepare_fitter(input, kernels, TRUE, "auto", state$run, "moments")
    }
    fits <- steps$fit_genes(state$fitter, list(input = input, normalizer = normalizer, run = state$run))
    fits$pval[-seq_len(n_fill)]
  })
  stats::na.omit(unlist(pval))
}

known <- function() if (file.exists(file)) utils::read.csv(file, check.names = FALSE) else NULL
names <- paste0("[", utils::head(strata, -1L), ",", strata[-1L], ")")

for (n in sizes) {
  for (layout in layouts) {
    set.seed(n)
    coords <- place(n, layout)
    state <- new.env()
    state$run <- steps$new_run(threads)
    # The richest first.
    for (stratum in rev(seq_along(names))) {
      table <- known()
      if (any(table$layout == layout & table$spots == n & table$counts == names[stratum])) {
        next
      }
      set.seed(n + stratum)
      p <- p_values(n, coords, stratum, state)
      share <- vapply(levels, \(a) mean(p <= a), 0)
      row <- data.frame(
        layout = layout,
        spots = n,
        counts = names[stratum],
        tests = length(p),
        t(stats::setNames(round(share / levels, 3), paste0("at_", levels))),
        t(stats::setNames(round(sqrt(levels * (1 - levels) / length(p)) / levels, 3), paste0("se_", levels)))
      )
      print(row, row.names = FALSE)
      table <- rbind(table, row)
      order <- order(table$spots, table$layout, match(table$counts, names))
      utils::write.csv(table[order, ], file, row.names = FALSE)
    }
  }
}
