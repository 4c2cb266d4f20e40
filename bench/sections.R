# Domains of several sections that hold other parts of one tissue: what the samples' means of factors bring.
#
#   Rscript bench/sections.R [tissues of each kind] [first seed] [folder of data]
#
# A tissue in layers (bench/layers.R) is cut into three sections:
#   ends      one has the first layers, one the middle ones and half of the last, one their other half;
#   along     one has the first three fifths of the layers, one their other half, one the rest;
#   across    each has all layers.
# Each gene's counts are thinned by a factor of its own in each section, whose logarithm has the standard deviation
# `batch`, and each section's by a depth. Given is the adjusted Rand index with the true layers of all sections
# together: as it is (`given`, and `chosen` with the number of domains found), and from factors that are 0 in the
# mean of each section, as they are fitted (`centred`, `centred_chosen`).
#
# Genes' differences are weighed by their noise, which was chosen on sections of seeds 61 and 62 (programs and mixtures of
# 30 × 30 spots, 1,500 placed cells; 54 tissues): the mean of `given` is .58 centred, .67 with means from genes weighed by
# 1 / noise, and as much if all standardised genes, or all as they are, weigh the same; .52 if expression is not
# centred at all (three sections far apart in one sample). By the batch, 0, .2 and .5: .60, .58, .55 centred; .72, .69, .60
# with means; .76, .40, .39 not centred. Of 18 tissues of which each section has all layers .70 centred, .71 with
# means. With the number of domains found .56 centred, .65 with means.
#
# Below, on untouched tissues, `given` is .61 centred and .74 with means, `chosen` as much (.61, .73): at the ends .46
# and .74, along .62 and .73, across .76 and .76; by the batch .62, .61, .60 and .78, .75, .70. Where sections differ in
# depth as 1, .5 and .2 (seeds 221 and 222, across and along, no batch) .56 and .65, with equal depths .63 and .74.
# The largest loss is of placed cells across at the largest batch, .83 to .55 (the other seed .83, .82).
#
# Results, the same on every run: bench/results/sections.csv.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 2L
first <- if (length(arguments) > 1L) as.integer(arguments[[2L]]) else 211L
data <- if (length(arguments) > 2L) arguments[[3L]] else Sys.getenv("PATINA_DATA")
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "tissues.R"))
source(file.path(here, "layers.R"))
folder <- file.path(here, "results")
options(patina.threads = 2L)

# A tissue cut into three sections.
cut_up <- function(tissue, how, batch) {
  place <- rank(tissue$xy[, 2]) / nrow(tissue$xy)
  half <- 1L + (place > 0.5)
  layer <- tissue$area / max(tissue$area)
  sample <- switch(
    how,
    ends = ifelse(layer <= 0.4, 1L, ifelse(layer <= 0.7, 2L, 1L + half)),
    along = ifelse(tissue$area > ceiling(0.6 * max(tissue$area)) & half == 2L, 3L, half),
    across = ceiling(3 * place)
  )
  yields <- matrix(exp(batch * rnorm(3 * nrow(tissue$counts))), ncol = 3)
  depth <- exp(0.3 * rnorm(3))
  kept <- pmin(yields / quantile(yields, 0.95), 1) * rep(depth / max(depth), each = nrow(yields))
  counts <- tissue$counts
  counts[] <- rbinom(length(counts), counts, kept[, sample])
  for (s in 1:3) {
    rows <- sample == s
    tissue$xy[rows, ] <- tissue$xy[rows, ] - rep(colMeans(tissue$xy[rows, ]), each = sum(rows))
  }
  spots <- colSums(counts) > 0
  list(
    xy = tissue$xy[spots, ],
    area = tissue$area[spots],
    sample = paste0("section_", sample[spots]),
    counts = counts[rowSums(counts > 0) > 4, spots]
  )
}

# Factors that are 0 in the mean of each section.
centred <- function(factors) {
  sample <- factors$factors$sample
  centre <- \(x) {
    x - rowsum(x, sample)[as.character(sample), ] / as.vector(table(sample)[as.character(sample)])
  }
  factors$model$tissue <- lapply(factors$model$tissue, centre)
  factors
}

one <- function(design, how, batch, seed) {
  set.seed(seed)
  tissue <- cut_up(do.call(design[[1]], design[-1]), how, batch)
  true <- max(tissue$area)
  factors <- spatial_factors(tissue$counts, tissue$xy, sample_id = tissue$sample, progress = FALSE)
  index <- \(factors, ...) rand(tissue$area, suppressMessages(spatial_domains(factors, ...))$domain)
  row <- data.frame(
    kind = design[[1]],
    how,
    batch,
    seed,
    spots = nrow(tissue$xy),
    parts = true,
    given = index(factors, true),
    chosen = index(factors),
    centred = index(centred(factors), true),
    centred_chosen = index(centred(factors))
  )
  print(row, digits = 2)
  row
}

designs <- list(list("programs", 30), list("mixtures", 30))
if (!is.null(section)) {
  designs <- c(designs, list(list("placed", 6, 0.35, 1500)))
}
cases <- expand.grid(
  design = seq_along(designs),
  how = c("ends", "along", "across"),
  batch = c(0, 0.2, 0.5),
  seed = first - 1L + seq_len(tissues),
  stringsAsFactors = FALSE
)
rows <- lapply(seq_len(nrow(cases)), \(i) {
  one(designs[[cases$design[i]]], cases$how[i], cases$batch[i], cases$seed[i])
})
table <- do.call(rbind, rows)
index <- c("given", "chosen", "centred", "centred_chosen")
table[index] <- lapply(table[index], round, 3)
write.csv(table, file.path(folder, "sections.csv"), row.names = FALSE)
