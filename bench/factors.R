# What spatial factors make of held-out spots, of simulated programs and of domains.
#
#   Rscript bench/factors.R [folder of data] [simulations] [first seed]
#
# Reconstruction: a tenth of the spots is left out; each gene's value there is predicted by
#   factors      spatial_factors() of the others, predicted at the left-out places;
#   pca          as many principal components of the others, the scores at the left-out places the means of
#                those of the six nearest spots;
#   neighbours   the mean of the six nearest spots' expression;
# and the share of the left-out variance that is predicted is given, over genes of variance 1.
#
# Simulation: tissues of rings, bands or patches with overlapping programs, genes that follow one or two of
# them, Poisson counts with gamma noise, depth that varies. Programs: the correlation of each true program
# with its best match (each factor once), beside that of an oracle that knows the loadings. Domains: adjusted
# Rand index with the true ones, beside that of the same mixture given the true programs, of k-means of
# principal components, of spatial principal components, and of the factors.
#
# Results, the same on every run: bench/results/factors_held_out.csv and factors_simulated.csv.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
data <- if (length(arguments) > 0L) arguments[[1L]] else Sys.getenv("PATINA_DATA")
simulations <- if (length(arguments) > 1L) as.integer(arguments[[2L]]) else 2L
first <- if (length(arguments) > 2L) as.integer(arguments[[3L]]) else 1L
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "tissues.R"))
folder <- file.path(here, "results")
options(patina.threads = 2L)

# Held-out spots ----------------------------------------------------------------------------------

log_normalised <- function(counts) {
  size <- colSums(counts) / median(colSums(counts))
  log1p(t(t(counts) / size))
}

nearest <- function(from, to, count) {
  d <- outer(rowSums(to^2), rowSums(from^2), `+`) - 2 * to %*% t(from)
  t(apply(d, 1, \(x) order(x)[seq_len(count)]))
}

held_out <- function(name, counts, coords, normalised = FALSE) {
  counts <- as.matrix(counts)
  coords <- as.matrix(coords)
  y <- if (normalised) log1p(counts) else log_normalised(counts)
  kept <- rowMeans(counts > 0) >= 0.1
  y <- y[kept, ]
  # a regular tenth of the spots in an order by chance
  set.seed(1)
  out <- sort(sample(ncol(y), round(ncol(y) / 10)))
  y <- y[apply(y[, -out], 1, sd) > 0, ]
  center <- rowMeans(y[, -out])
  spread <- apply(y[, -out], 1, sd)
  y <- (y - center) / spread
  if (nrow(y) > 2000) {
    # those whose neighbours are most alike, without the left-out spots
    near <- nearest(coords[-out, ], coords[-out, ], 7)[, -1]
    inside <- y[, -out]
    smooth <- Reduce(`+`, lapply(1:6, \(k) inside[, near[, k]])) / 6
    y <- y[order(-rowMeans(inside * smooth))[1:2000], ]
  }
  truth <- y[, out]
  score <- \(prediction) 1 - sum((truth - prediction)^2) / sum(truth^2)

  fit <- spatial_factors(
    y[, -out],
    coords[-out, ],
    genes = rownames(y),
    normalization = "none",
    progress = FALSE
  )
  there <- predict(fit, coords[out, ], wide = TRUE)
  rank <- ncol(fit$loadings)
  values <- as.matrix(there[paste0("factor_", seq_len(rank))])
  factors <- score(fit$loadings %*% t(values))

  near <- nearest(coords[-out, ], coords[out, ], 6)
  mean_of_near <- \(m) Reduce(`+`, lapply(1:6, \(k) m[, near[, k], drop = FALSE])) / 6
  parts <- svd(y[, -out], nu = rank, nv = rank)
  scores <- t(parts$v %*% diag(parts$d[seq_len(rank)], rank))
  pca <- score(parts$u %*% mean_of_near(scores))
  neighbours <- score(mean_of_near(y[, -out]))
  row <- data.frame(set = name, spots = ncol(y), genes = nrow(y), rank, factors, pca, neighbours)
  print(row, digits = 3)
  row
}

read_sets <- function(data) {
  file <- \(...) file.path(data, ...)
  bulb <- t(read.csv(file("Rep11_MOB_0.csv.gz"), row.names = 1, check.names = FALSE))
  info <- read.csv(file("MOB_sample_info.csv"), row.names = 1)
  cancer <- t(read.delim(file("Layer2_BC_count_matrix-1.tsv.gz"), row.names = 1, check.names = FALSE))
  cancer_xy <- do.call(rbind, lapply(strsplit(colnames(cancer), "x"), as.numeric))
  seqfish <- t(read.csv(file("seqFISH_field43_countdata.csv.gz"), row.names = 1, check.names = FALSE))
  rownames(seqfish) <- gsub("['\"]", "", rownames(seqfish))
  seqfish_xy <- read.csv(file("seqFISH_field43_info.csv"), row.names = 1)[c("x", "y")]
  rows <- list(
    held_out("olfactory bulb", bulb[, rownames(info)], info[c("x", "y")]),
    held_out("breast cancer", cancer, cancer_xy),
    held_out("seqFISH", seqfish, seqfish_xy)
  )
  merfish <- read_merfish(data)
  expression <- SummarizedExperiment::assay(merfish)
  rows[[4L]] <- held_out("MERFISH", expression, SpatialExperiment::spatialCoords(merfish), TRUE)
  do.call(rbind, rows)
}

if (nzchar(data) && dir.exists(data)) {
  write.csv(read_sets(data), file.path(folder, "factors_held_out.csv"), row.names = FALSE)
} else {
  message("No data: reconstruction of held-out spots is left out.")
}

# Simulation --------------------------------------------------------------------------------------

areas <- function(xy, kind, count) {
  centred <- scale(xy, scale = FALSE)
  if (kind == "patches") {
    centres <- xy[sample(nrow(xy), 3 * count), ]
    return(((nearest(centres, xy, 1)[1, ] - 1) %% count) + 1)
  }
  along <- if (kind == "rings") {
    angle <- atan2(centred[, 2], centred[, 1])
    sqrt(rowSums(centred^2)) * (1 + 0.12 * cos(2 * angle + 1) + 0.08 * sin(3 * angle))
  } else {
    angle <- runif(1, 0, pi)
    across <- centred %*% c(-sin(angle), cos(angle))
    centred %*% c(cos(angle), sin(angle)) + 0.05 * diff(range(xy)) * sin(4 * across / diff(range(xy)))
  }
  widths <- runif(count, 0.6, 1.4)
  ends <- cumsum(widths) / sum(widths)
  share <- (along - min(along)) / diff(range(along))
  findInterval(share, ends[-count]) + 1
}

simulate <- function(side, kind, domains, programs, noise, genes = 800) {
  xy <- hexagons(side)
  n <- nrow(xy)
  area <- areas(xy, kind, domains)
  smooth <- vapply(
    seq_len(programs),
    function(k) {
      level <- numeric(domains)
      level[(k - 1) %% domains + 1] <- 1
      other <- sample(domains, 1)
      # programs overlap
      level[other] <- level[other] + 0.6
      if (k > domains) {
        level[sample(domains, 2)] <- 1
      }
      0.95 * as.vector(scale(level[area])) + 0.3 * smooth_field(xy, side / 5)
    },
    numeric(n)
  )
  whole <- smooth + noise * rnorm(n * programs)
  loadings <- matrix(0, genes, programs)
  for (g in sample(genes, 0.6 * genes)) {
    which <- sample(programs, sample(2, 1, prob = c(0.6, 0.4)))
    sign <- sample(c(1, -1), length(which), TRUE, c(0.8, 0.2))
    loadings[g, which] <- sign * rgamma(length(which), 2, 2) * 0.4
  }
  depth <- 0.3 * rnorm(n) + 0.2 * smooth_field(xy, side / 6)
  eta <- loadings %*% t(whole) + rnorm(genes, sd = 1) + rep(depth, each = genes)
  lambda <- exp(pmin(eta, 6)) * rgamma(length(eta), 1 / 0.15, 1 / 0.15)
  counts <- matrix(rpois(length(lambda), lambda), genes)
  rownames(counts) <- paste0("g", seq_len(genes))
  list(counts = counts, xy = xy, area = area, smooth = smooth, whole = whole, loadings = loadings)
}

# each factor is the match of one program
matches <- function(truth, found) {
  r <- abs(cor(truth, found))
  r[is.na(r)] <- 0
  out <- numeric(ncol(truth))
  for (i in seq_len(min(dim(r)))) {
    at <- which(r == max(r), arr.ind = TRUE)[1, ]
    out[at[[1]]] <- r[at[[1]], at[[2]]]
    r[at[[1]], ] <- -1
    r[, at[[2]]] <- -1
  }
  out
}

# Programs by least squares given the true loadings, smoothed as well as any moving mean can
oracle_programs <- function(tissue) {
  y <- log_normalised(tissue$counts)
  y <- y - rowMeans(y)
  loadings <- vapply(seq_len(ncol(tissue$whole)), \(k) numeric(nrow(y)), numeric(nrow(y)))
  loadings <- t(solve(crossprod(scale(tissue$whole, TRUE, FALSE)), t(y %*% scale(tissue$whole, TRUE, FALSE))))
  noise <- rowMeans((y - loadings %*% t(scale(tissue$whole, TRUE, FALSE)))^2)
  weighted <- loadings / noise
  scores <- t(solve(crossprod(weighted, loadings), crossprod(weighted, y)))
  d <- as.matrix(dist(tissue$xy))
  vapply(
    seq_len(ncol(scores)),
    function(k) {
      smoothed <- \(l) {
        w <- exp(-d^2 / (2 * l^2))
        as.vector(w %*% scores[, k] / rowSums(w))
      }
      max(vapply(c(0.1, 0.5, 0.7, 1, 1.5), \(l) cor(smoothed(l), tissue$smooth[, k]), 0))
    },
    0
  )
}

# Leading eigenvectors of Y K Y', K over 0.8 spacings, and each score smoothed at a delta of its own
spatial_pca <- function(tissue, rank = 15, scale = 0.8) {
  y <- t(log_normalised(tissue$counts))
  y <- y - rep(colMeans(y), each = nrow(y))
  d <- as.matrix(dist(tissue$xy))
  diag(d) <- Inf
  spacing <- median(apply(d, 1, min))
  diag(d) <- 0
  kernel <- eigen(exp(-d^2 / (2 * (scale * spacing)^2)), symmetric = TRUE)
  values <- pmax(kernel$values, 0)
  half <- crossprod(sqrt(values) * t(kernel$vectors), t(kernel$vectors) %*% y)
  parts <- eigen(tcrossprod(half), symmetric = TRUE)
  axes <- crossprod(half, parts$vectors[, seq_len(rank)])
  scores <- y %*% (axes / rep(sqrt(colSums(axes^2)), each = nrow(axes)))
  deltas <- exp(seq(-3, 5, 0.3))
  apply(scores, 2, function(score) {
    along <- drop(crossprod(kernel$vectors, score))
    likelihood <- vapply(
      deltas,
      \(delta) -0.5 * sum(log(values + delta)) - 0.5 * length(along) * log(sum(along^2 / (values + delta))),
      0
    )
    delta <- deltas[[which.max(likelihood)]]
    kernel$vectors %*% (values / (values + delta) * along)
  })
}

one <- function(side, kind, domains, programs, noise, seed) {
  set.seed(seed)
  tissue <- simulate(side, kind, domains, programs, noise)
  fit <- spatial_factors(tissue$counts, tissue$xy, progress = FALSE)
  given <- spatial_factors(tissue$counts, tissue$xy, n_factors = programs, progress = FALSE)
  values <- \(fit) as.matrix(fit$factors[colnames(fit$loadings)])
  truth <- given
  # the mixture given the programs themselves: what each spot has of its own is all that is in its way
  truth$model$tissue <- list(values = tissue$smooth, totals = tissue$whole)
  pca <- svd(scale(t(log_normalised(tissue$counts))), nu = programs)
  set.seed(1)
  k_means <- \(x) kmeans(x, domains, nstart = 20)$cluster
  best <- matches(tissue$smooth, values(fit))
  exact <- matches(tissue$smooth, values(given))
  oracle <- oracle_programs(tissue)
  row <- data.frame(
    spots = side^2,
    kind,
    domains,
    programs,
    noise,
    seed,
    found = ncol(fit$loadings),
    mean_match = mean(best),
    least_match = min(best),
    mean_match_given = mean(exact),
    least_match_given = min(exact),
    mean_oracle = mean(oracle),
    least_oracle = min(oracle),
    ari = rand(tissue$area, spatial_domains(fit, domains)$domain),
    ari_given = rand(tissue$area, spatial_domains(given, domains)$domain),
    ari_oracle = rand(tissue$area, spatial_domains(truth, domains)$domain),
    ari_pca = rand(tissue$area, k_means(pca$u %*% diag(pca$d[seq_len(programs)]))),
    ari_spatial_pca = rand(tissue$area, k_means(spatial_pca(tissue))),
    ari_k_means = rand(tissue$area, k_means(values(fit)))
  )
  print(row, digits = 3)
  row
}

designs <- list(
  list(18, "rings", 3, 3, 0.4),
  list(18, "patches", 4, 4, 0.4),
  list(18, "rings", 5, 5, 0.6),
  list(30, "bands", 5, 5, 0.4),
  list(30, "bands", 7, 7, 0.6),
  list(30, "patches", 6, 8, 0.4)
)
rows <- lapply(designs, function(design) {
  do.call(rbind, lapply(first - 1L + seq_len(simulations), \(seed) do.call(one, c(design, seed))))
})
write.csv(do.call(rbind, rows), file.path(folder, "factors_simulated.csv"), row.names = FALSE)
