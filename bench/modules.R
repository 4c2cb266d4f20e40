# How well gene_correlation() finds modules of genes, and how many.
#
#   Rscript bench/modules.R [tissues of each kind]
#
# Modules of 12 to 38 genes on 256 or 1,600 spots, 3 to 10 of them, each of which follows one smooth field, with
# noise of one or two times its standard deviation; of "mixed" modules half of the genes follow another field too,
# by 0.6. The adjusted Rand index with the true modules and the number found, of modules joined from below (the
# default) and of the cut with the largest mean silhouette of 2 to 30. A quarter of the genes of one more
# setting have fields of their own: the share of these that is in no module.
#
# Results, the same on every run: bench/results/modules.csv.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 3L
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "tissues.R"))
options(patina.threads = 2L)

one <- function(side, modules, noise, mixed, alone, seed) {
  set.seed(seed)
  xy <- hexagons(side)
  fields <- replicate(modules, smooth_field(xy, side / 6))
  module <- rep(seq_len(modules), round(25 * runif(modules, 0.5, 1.5)))
  gene <- function(k) {
    signal <- fields[, k] * runif(1, 0.5, 1.2)
    if (runif(1) < mixed) {
      signal <- signal + 0.6 * fields[, sample(modules, 1)]
    }
    signal + rnorm(nrow(xy), 0, noise)
  }
  y <- vapply(module, gene, numeric(nrow(xy)))
  by_itself <- round(alone * length(module))
  lonely <- vapply(seq_len(by_itself), \(i) smooth_field(xy, side / 6) + rnorm(nrow(xy), 0, noise), xy[, 1])
  y <- cbind(y, lonely)
  genes <- paste0("g", seq_len(ncol(y)))
  y <- `rownames<-`(t(y), genes)
  found <- \(...) gene_correlation(y, xy, genes, normalization = "none", ...)$modules$module
  below <- found()
  cut <- found(n_modules = 2:30, min_genes = 3)
  in_module <- seq_along(module)
  score <- \(x) rand(module, replace(x, is.na(x), 0L)[in_module])
  data.frame(
    spots = nrow(xy),
    modules,
    noise,
    mixed,
    alone,
    seed,
    found_below = max(below, 0L, na.rm = TRUE),
    found_cut = max(cut, 0L, na.rm = TRUE),
    ari_below = score(below),
    ari_cut = score(cut),
    none_below = if (by_itself > 0) mean(is.na(below[-in_module])) else NA,
    none_cut = if (by_itself > 0) mean(is.na(cut[-in_module])) else NA
  )
}

settings <- expand.grid(
  side = c(16, 40),
  modules = c(3, 6, 10),
  noise = c(1, 2),
  mixed = c(0, 0.5),
  alone = c(0, 0.25),
  seed = 100 + seq_len(tissues)
)
table <- do.call(rbind, do.call(Map, c(list(one), unname(settings))))
table <- table[do.call(order, table[c("spots", "modules", "noise", "mixed", "alone", "seed")]), ]
rounded <- startsWith(names(table), "ari") | startsWith(names(table), "none")
table[rounded] <- lapply(table[rounded], round, 3)
write.csv(table, file.path(here, "results", "modules.csv"), row.names = FALSE)
by <- list(mixed = table$mixed, alone = table$alone)
print(aggregate(abs(table[c("found_below", "found_cut")] - table$modules), by, mean), digits = 3)
print(aggregate(table[grep("^ari", names(table))], by, mean), digits = 3)
print(aggregate(table[grep("^none", names(table))], by, mean), digits = 3)
