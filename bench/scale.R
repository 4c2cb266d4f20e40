# How time and memory grow with spots and genes, stage by stage.
#
# Usage: Rscript bench/scale.R [small|large|huge] [folder] [threads]
#        Rscript bench/scale.R peers ENVIRONMENTS [folder]
#
# small (the default): up to 5,000 spots, a few minutes; large: up to 100,000, half an hour on two cores;
# huge: from 20,000 to 1,000,000 spots, where lengthscales and variances come from moments, and 400,000 ×
# 18,000. Writes scale.csv (huge: scale_huge.csv), a row for each case, into the folder (default
# bench/results), and prints the growth in spots: cost ~ spots^exponent. The article on scale draws it.
# peers: 100,000 spots of a square lattice × 1,000 genes by patina and by others, one after the other, on one
# core each; ENVIRONMENTS is the folder that bench/peers/setup.sh made. Writes scale_peers.csv.

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

# One spot in a unit square: at random places, or on a square or hexagonal lattice.
place_spots <- function(n_spots, layout) {
  if (layout == "scattered") {
    side <- sqrt(n_spots)
    return(data.frame(x = stats::runif(n_spots, 0, side), y = stats::runif(n_spots, 0, side)))
  }
  width <- ceiling(sqrt(n_spots))
  if (layout == "square") {
    return(data.frame(x = (seq_len(n_spots) - 1) %% width, y = (seq_len(n_spots) - 1) %/% width))
  }
  row <- (seq_len(n_spots) - 1L) %/% width
  column <- (seq_len(n_spots) - 1L) %% width
  data.frame(x = column + 0.5 * (row %% 2L), y = row * sqrt(0.75)) * sqrt(2 / sqrt(3))
}

# Negative binomial counts, 5 % of them not zero; every tenth gene follows a smooth function, each another
# one, so that the spots' totals do not.
simulate <- function(n_spots, n_genes, layout) {
  set.seed(n_spots + n_genes)
  coords <- place_spots(n_spots, layout)
  depth <- stats::rgamma(n_spots, 10, 10)
  wave <- function(gene) exp(sin(coords$x / 6 + gene) * cos(coords$y / 9 + gene / 7))
  blocks <- split(seq_len(n_genes), (seq_len(n_genes) - 1L) %/% max(1, 2e7 %/% n_spots))
  counts <- lapply(blocks, function(genes) {
    rate <- stats::rgamma(length(genes), 0.3, 4)
    planted <- genes %% 10 == 0
    rate[planted] <- rate[planted] + 0.1
    mean <- outer(rate, depth)
    mean[planted, ] <- mean[planted, ] * t(vapply(genes[planted], wave, coords$x))
    block <- matrix(as.double(stats::rnbinom(length(mean), mu = mean, size = 2)), length(genes))
    # no spot without counts
    block[genes == 1, ] <- block[genes == 1, ] + 1
    methods::as(block, "CsparseMatrix")
  })
  counts <- do.call(rbind, unname(counts))
  dimnames(counts) <- list(paste0("g", seq_len(n_genes)), NULL)
  list(counts = counts, coords = coords)
}

# The same for so many spots that a block of genes cannot be dense: 8 % of the counts are not zero, or 2 %
# where there are more than 5,000 genes.
simulate_sparse <- function(n_spots, n_genes, layout) {
  set.seed(n_spots + n_genes)
  coords <- place_spots(n_spots, layout)
  depth <- stats::rgamma(n_spots, 10, 10)
  share <- if (n_genes > 5000) 0.02 else 0.08
  found <- pmin(3 + stats::rpois(n_genes, n_spots * share * stats::rgamma(n_genes, 1.5, 1.5)), n_spots %/% 3)
  spots <- lapply(seq_len(n_genes), function(gene) {
    chance <- if (gene %% 10 == 0) exp(0.5 * sin(coords$x / 6 + gene) * cos(coords$y / 9 + gene / 7)) else 1
    kept <- sample.int(n_spots, min(4L * found[gene], n_spots))
    kept <- kept[stats::runif(length(kept)) < 0.25 * (depth * chance)[kept]]
    sort(kept)
  })
  counts <- methods::new(
    "dgCMatrix",
    i = unlist(spots) - 1L,
    p = c(0L, cumsum(lengths(spots))),
    x = 1 + stats::rpois(sum(lengths(spots)), 0.3),
    Dim = c(n_spots, n_genes)
  )
  # no spot without counts
  counts <- Matrix::t(counts)
  empty <- which(diff(counts@p) == 0L)
  if (length(empty) > 0L) {
    counts <- counts[, -empty]
    coords <- coords[-empty, ]
  }
  rownames(counts) <- paste0("g", seq_len(n_genes))
  list(counts = counts, coords = coords)
}

# The counts as they come: sparse, dense, or in a file.
store <- function(counts, input) {
  switch(
    input,
    sparse = counts,
    dense = as.matrix(counts),
    HDF5 = HDF5Array::writeHDF5Array(counts)
  )
}

# What no program can avoid: to read the counts once, and the products of genes and kernels at the 70 billion
# operations a second that two cores reach.
read_once <- function(counts) {
  sums <- if (methods::is(counts, "DelayedArray")) DelayedArray::rowSums else Matrix::rowSums
  timed(sums(counts))[["wall"]]
}
bare_products <- function(n_spots, n_genes, kernels) {
  2 * n_spots * n_genes * sum(kernels$rank[!kernels$engine %in% c("krylov", "grid")]) / 70e9
}

# One case: the steps of spatial_test() one by one.
run_case <- function(n_spots, n_genes, layout, input_class, threads, file) {
  steps <- asNamespace("patina")
  tissue <- if (n_spots >= 20000 && as.double(n_spots) * n_genes > 1e7) {
    simulate_sparse(n_spots, n_genes, layout)
  } else {
    simulate(n_spots, n_genes, layout)
  }
  run <- steps$new_run(threads)
  tissue$counts <- store(tissue$counts, input_class)
  invisible(gc())
  simulated <- peak_memory()
  floor_read <- read_once(tissue$counts)
  read <- timed(input <- steps$as_input(tissue$counts, tissue$coords))
  summarize <- timed(normalizer <- steps$new_normalizer(input, steps$new_settings(), run))
  kernels <- steps$kernel_table("SE", NULL, input, NULL)
  prepare <- timed(fitter <- steps$prepare_fitter(input, kernels, TRUE, "auto", run, "auto"))
  fit <- timed(
    fits <- steps$fit_genes(fitter, list(input = input, normalizer = normalizer, run = run))
  )
  planted <- seq_len(n_genes) %% 10 == 0
  stages <- list(read = read, summarize = summarize, prepare = prepare, fit = fit)
  seconds <- function(what, of = stages) vapply(of, \(stage) stage[[what]], 0)
  case <- data.frame(
    spots = n_spots,
    genes = n_genes,
    layout = layout,
    input = input_class,
    threads = threads,
    as.list(round(seconds("wall"), 3)),
    total = round(sum(seconds("wall")), 3),
    cpu = round(sum(seconds("cpu")), 3),
    floor = round(floor_read + bare_products(n_spots, n_genes, fitter$description), 3),
    peak_mb = round(peak_memory()),
    data_mb = round(simulated),
    tested = sum(fits$status == "ok"),
    found = sum(fits$pval[planted] < 1e-4, na.rm = TRUE),
    planted = sum(planted),
    false = sum(fits$pval[!planted] < 0.01, na.rm = TRUE),
    engines = paste(fitter$description$engine, fitter$description$rank, collapse = " ")
  )
  utils::write.table(
    case,
    file,
    sep = ",",
    row.names = FALSE,
    append = file.exists(file),
    col.names = !file.exists(file)
  )
}

# Exponents of growth in spots, over cases that differ in nothing else.
growth <- function(cases) {
  alike <- interaction(cases$genes, cases$layout, cases$input, drop = TRUE)
  for (of in split(cases, alike)) {
    of <- of[of$spots >= 5000, ]
    if (nrow(of) < 2L) {
      next
    }
    slope <- \(y) stats::coef(stats::lm(log(y) ~ log(of$spots)))[[2L]]
    cat(sprintf(
      "%d genes, %d to %d spots: time ~ n^%.2f, of all cores ~ n^%.2f, peak memory ~ n^%.2f\n",
      of$genes[1L],
      min(of$spots),
      max(of$spots),
      slope(of$total),
      slope(of$cpu),
      slope(of$peak_mb)
    ))
  }
}

cases_of <- function(size) {
  case <- \(spots, genes, layout = "scattered", input = "sparse") {
    expand.grid(spots = spots, genes = genes, layout = layout, input = input, stringsAsFactors = FALSE)
  }
  small <- rbind(
    case(c(250, 500, 1000, 2000, 5000), 200),
    case(c(250, 1000), c(2000, 20000)),
    case(4000, c(200, 2000), "hexagonal", "dense")
  )
  large <- rbind(
    case(c(10000, 20000, 50000), 200),
    case(100000, 100),
    case(4000, 20000, "hexagonal", c("sparse", "HDF5"))
  )
  huge <- rbind(
    case(c(20000, 100000, 200000, 400000, 1e6), 1000, c("scattered", "square")),
    case(20000, 2000),
    case(400000, 18000, "square")
  )
  switch(size, small = small, large = rbind(small, large), huge = huge)
}

# The same tissue for all, each in a process of its own, as bench/peers/run.R has them.
run_peers <- function(environments, folder, n_spots = 100000L, n_genes = 1000L) {
  data <- tempfile("tissue")
  dir.create(data)
  tissue <- simulate_sparse(n_spots, n_genes, "square")
  Matrix::writeMM(tissue$counts, file.path(data, "counts.mtx"))
  utils::write.csv(tissue$coords, file.path(data, "coords.csv"), row.names = FALSE)
  writeLines(rownames(tissue$counts), file.path(data, "genes.txt"))
  rm(tissue)
  peers <- file.path(dirname(this_script()), "peers")
  r <- c(file.path(R.home("bin"), "Rscript"), file.path(peers, "peer.R"))
  python <- c(file.path(environments, "current", "bin", "python"), file.path(peers, "peer.py"))
  programs <- list(patina = r, FlashS = python, scBSP = python, "squidpy Moran" = python, "SPARK-X" = r)
  one_core <- paste0(c("OMP", "OPENBLAS", "MKL", "NUMBA"), "_NUM_THREADS=1")
  planted <- seq_len(n_genes) %% 10 == 0
  rows <- lapply(names(programs), function(method) {
    out <- file.path(data, "out")
    unlink(paste0(out, ".json"))
    program <- programs[[method]]
    arguments <- c(shQuote(program[2L]), shQuote(method), shQuote(data), shQuote(out))
    system2(program[1L], arguments, stdout = FALSE, stderr = FALSE, env = one_core)
    if (!file.exists(paste0(out, ".json"))) {
      message(method, " is not installed, or gave no result: left out")
      return(NULL)
    }
    text <- readLines(paste0(out, ".json"))
    number <- function(key) as.numeric(sub(sprintf('.*"%s": ([0-9.]+).*', key), "\\1", text))
    pval <- utils::read.csv(paste0(out, ".csv"))$pval
    data.frame(
      method = method,
      version = sub('.*"version": "([^"]+)".*', "\\1", text),
      spots = n_spots,
      genes = n_genes,
      cpu = round(number("cpu"), 1),
      peak_mb = round(number("memory")),
      found = sum(stats::p.adjust(pval, "BH")[planted] < 0.05, na.rm = TRUE),
      planted = sum(planted),
      false = sum(pval[!planted] < 0.01, na.rm = TRUE)
    )
  })
  table <- do.call(rbind, rows)
  utils::write.csv(table, file.path(folder, "scale_peers.csv"), row.names = FALSE)
  print(table, row.names = FALSE)
}

arguments <- commandArgs(TRUE)
if (length(arguments) > 0L && arguments[1L] == "peers") {
  folder <- if (length(arguments) > 2L) arguments[3L] else file.path(dirname(this_script()), "results")
  run_peers(arguments[2L], folder)
} else if (length(arguments) > 0L && arguments[1L] == "case") {
  numbers <- as.integer(arguments[c(2L, 3L, 6L)])
  run_case(numbers[1L], numbers[2L], arguments[4L], arguments[5L], numbers[3L], arguments[7L])
} else {
  size <- if (length(arguments) > 0L) match.arg(arguments[1L], c("small", "large", "huge")) else "small"
  folder <- if (length(arguments) > 1L) arguments[2L] else file.path(dirname(this_script()), "results")
  threads <- if (length(arguments) > 2L) arguments[3L] else parallel::detectCores()
  dir.create(folder, showWarnings = FALSE, recursive = TRUE)
  file <- file.path(normalizePath(folder), if (size == "huge") "scale_huge.csv" else "scale.csv")
  unlink(file)
  cases <- cases_of(size)
  for (i in order(cases$spots * cases$genes)) {
    case <- cases[i, ]
    message(sprintf("%d spots, %s, x %d genes, %s", case$spots, case$layout, case$genes, case$input))
    do.call(in_new_process, c(this_script(), "case", unname(as.list(case)), threads, shQuote(file)))
  }
  cases <- utils::read.csv(file)
  print(cases[names(cases) != "engines"], row.names = FALSE)
  growth(cases)
}
