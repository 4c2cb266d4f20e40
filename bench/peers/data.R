# The data sets of the comparison: Rscript data.R FOLDER
#
# Each gets a folder with counts.mtx (genes x spots), coords.csv, genes.txt and truth.csv: gene, total, and `spatial`, 1
# for genes that have a pattern, 0 for those that have none, empty where nobody knows. Real tissues are looked for in
# PATINA_DATA, else in ../shared/data beside the repository. The same on every run.

suppressPackageStartupMessages(library(Matrix))
folder <- commandArgs(trailingOnly = TRUE)[[1L]]
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
shared <- Sys.getenv(
  "PATINA_DATA",
  file.path(dirname(normalizePath(script)), "..", "..", "..", "shared", "data")
)

save_set <- function(name, counts, coords, spatial) {
  into <- file.path(folder, "data", name)
  dir.create(into, recursive = TRUE, showWarnings = FALSE)
  writeMM(as(as(counts, "dMatrix"), "CsparseMatrix"), file.path(into, "counts.mtx"))
  write.csv(round(coords, 6), file.path(into, "coords.csv"), row.names = FALSE)
  genes <- rownames(counts)
  writeLines(genes, file.path(into, "genes.txt"))
  truth <- data.frame(gene = genes, total = rowSums(counts), spatial = spatial)
  write.csv(truth, file.path(into, "truth.csv"), row.names = FALSE, na = "")
  message(name, ": ", nrow(counts), " genes, ", ncol(counts), " spots")
}

# Simulation --------------------------------------------------------------------------------------

overdispersion <- 0.2

# A disc of a hexagonal lattice, neighbours 1 apart.
hexagonal <- function(n) {
  side <- seq(-ceiling(sqrt(n)), ceiling(sqrt(n)))
  grid <- expand.grid(x = side, y = side)
  grid$x <- grid$x + (grid$y %% 2) / 2
  grid$y <- grid$y * sqrt(3) / 2
  as.matrix(grid[order(grid$x^2 + grid$y^2)[seq_len(n)], ])
}

# A smooth random function, standard deviation 1, as a sum of 300 waves.
field <- function(coords, lengthscale) {
  waves <- matrix(rnorm(600), 2L) / lengthscale
  phases <- runif(300L, 0, 2 * pi)
  as.vector(scale(rowSums(cos(sweep(coords %*% waves, 2L, phases, "+")))))
}

# A pattern, standard deviation 1: fields of 2 to 8 spacings, gradients, hotspots, rings.
pattern <- function(coords) {
  width <- diff(range(coords[, 1L]))
  kind <- sample(4L, 1L)
  centre <- coords[sample(nrow(coords), 1L), ]
  r <- sqrt(colSums((t(coords) - centre)^2)) / width
  angle <- runif(1L, 0, 2 * pi)
  value <- switch(
    kind,
    field(coords, exp(runif(1L, log(2), log(8)))),
    as.vector(coords %*% c(cos(angle), sin(angle))),
    exp(-r^2 / (2 * 0.12^2)),
    exp(-(r - 0.3)^2 / (2 * 0.06^2))
  )
  as.vector(scale(value))
}

# Genes' expected totals: from few counts to many.
random_totals <- function(genes) exp(runif(genes, log(10), log(5000)))

# Counts whose mean is total x depth x exp(log_pattern), genes x spots.
draw <- function(totals, log_depth, log_patterns = NULL) {
  share <- exp(log_depth) / sum(exp(log_depth))
  mu <- outer(totals, share)
  if (!is.null(log_patterns)) {
    raw <- exp(log_patterns) * rep(share, each = length(totals))
    mu <- raw * (totals / rowSums(raw))
  }
  counts <- matrix(rnbinom(length(mu), size = 1 / overdispersion, mu = mu), length(totals))
  rownames(counts) <- sprintf("g%d", seq_along(totals))
  counts
}

# 200 rich genes that make a spot's total follow its depth, as the thousands of genes of a tissue do.
with_background <- function(counts, log_depth) {
  background <- draw(exp(rnorm(200L, log(10))) * length(log_depth), log_depth)
  rownames(background) <- sprintf("background%d", seq_len(200L))
  rbind(counts, background)
}

# Patterns as strong as leaves power between 0 and 1: by the information that a gene's counts carry.
signals <- function(coords, totals, strengths = c(4, 6, 9)) {
  n <- nrow(coords)
  mean <- totals / n
  amplitude <- sample(strengths, length(totals), TRUE) / sqrt(n * mean / (1 + overdispersion * mean))
  t(vapply(amplitude, \(a) min(a, 2) * pattern(coords), numeric(n)))
}

# Sets --------------------------------------------------------------------------------------------

read_tissue <- function(file, separator, least_total) {
  table <- read.table(
    file.path(shared, file),
    header = TRUE,
    sep = separator,
    row.names = 1L,
    check.names = FALSE,
    quote = ""
  )
  counts <- t(as.matrix(table))
  counts <- counts[rowSums(counts) >= 3, ]
  counts <- counts[, colSums(counts) > least_total]
  coords <- do.call(rbind, strsplit(colnames(counts), "x"))
  mode(coords) <- "numeric"
  colnames(coords) <- c("x", "y")
  list(counts = counts, coords = coords)
}

# (a) Real counts, spots in random order: no gene has a pattern. 500 genes of each stratum of totals.
level <- function() {
  sets <- list(
    bulb = list("Rep11_MOB_0.csv.gz", ",", 10),
    cancer = list("Layer2_BC_count_matrix-1.tsv.gz", "\t", 5)
  )
  for (name in names(sets)) {
    tissue <- do.call(read_tissue, sets[[name]])
    stratum <- cut(rowSums(tissue$counts), c(0, 10, 50, 200, Inf), right = FALSE)
    for (copy in 1:3) {
      genes <- sort(unlist(lapply(split(seq_along(stratum), stratum), sample, 500L)))
      order <- sample(ncol(tissue$counts))
      save_set(sprintf("level_%s_%d", name, copy), tissue$counts[genes, order], tissue$coords, 0)
    }
  }
}

# (b) Depth that is smooth over the tissue, and no spatial gene.
depth <- function() {
  for (n in c(260L, 1024L)) {
    for (copy in 1:2) {
      coords <- hexagonal(n)
      log_depth <- 0.5 * field(coords, diff(range(coords[, 1L])) / 5) + 0.2 * rnorm(n)
      counts <- with_background(draw(random_totals(1300L), log_depth), log_depth)
      save_set(sprintf("depth_%d_%d", n, copy), counts, coords, 0)
    }
  }
}

# (c) A tenth of the genes have a pattern, under depth that is partly smooth.
mixtures <- function() {
  for (n in c(260L, 613L, 3600L)) {
    for (copy in seq_len(if (n < 3600L) 2L else 1L)) {
      coords <- hexagonal(n)
      log_depth <- 0.3 * field(coords, diff(range(coords[, 1L])) / 5) + 0.2 * rnorm(n)
      totals <- random_totals(1300L)
      patterns <- matrix(0, 1300L, n)
      patterns[1:150, ] <- signals(coords, totals[1:150])
      counts <- with_background(draw(totals, log_depth, patterns), log_depth)
      spatial <- as.integer(seq_len(nrow(counts)) <= 150L)
      save_set(sprintf("mixture_%d_%d", n, copy), counts, coords, spatial)
    }
  }
}

# (d) Layers: bands of a tissue, deeper in some of them; a fifth of the genes differ between layers. And the bulb
# (another replicate) with the cell type that most of each spot is said to be; genes differ by a rank test.
layers <- function() {
  coords <- hexagonal(600L)
  bent <- coords[, 2L] + 3 * sin(coords[, 1L] / 5)
  layer <- cut(bent, quantile(bent, seq(0, 1, 0.2)), labels = FALSE, include.lowest = TRUE)
  log_depth <- c(-0.4, 0, 0.3, 0.1, -0.2)[layer] + 0.3 * rnorm(600L)
  totals <- random_totals(1800L)
  patterns <- matrix(0, 1800L, 600L)
  effect <- function(total) {
    change <- ifelse(runif(5L) < 0.4, rnorm(5L), 0)
    mean <- total / 600
    min(sample(c(4, 6, 9), 1L) / sqrt(600 * mean / (1 + overdispersion * mean)), 2) * change[layer]
  }
  patterns[1:360, ] <- t(vapply(totals[1:360], effect, numeric(600L)))
  counts <- with_background(draw(totals, log_depth, patterns), log_depth)
  differs <- rowSums(abs(patterns - patterns[, 1L])) > 0
  save_set("layers_simulated", counts, coords, c(as.integer(differs), rep(0L, 200L)))

  path <- file.path(shared, "stance_mOB.rda")
  tissue <- get(load(path))
  types <- colnames(tissue$prop)[max.col(tissue$prop, "first")]
  frequent <- types %in% names(which(table(types) >= 15L))
  counts <- tissue$counts
  scaled <- log1p(sweep(counts, 2L, colSums(counts) / median(colSums(counts)), "/"))
  p <- apply(scaled[, frequent], 1L, \(y) kruskal.test(y, types[frequent])$p.value)
  q <- p.adjust(p, "BH")
  save_set("layers_bulb", counts, tissue$pos, ifelse(q < 0.05, 1L, ifelse(p > 0.2, 0L, NA)))
}

# (e) 20,000 cells, sparse counts.
scale_set <- function() {
  coords <- matrix(runif(40000L, 0, 141), ncol = 2L, dimnames = list(NULL, c("x", "y")))
  totals <- exp(runif(500L, log(400), log(6000)))
  log_depth <- 0.3 * rnorm(20000L)
  counts <- draw(totals, log_depth)
  save_set("scale_20000", counts, coords, 0)
}

RNGkind("Mersenne-Twister", "Inversion", "Rejection")
set.seed(20261124)
level()
depth()
mixtures()
layers()
scale_set()
