# How time and memory grow with spots and genes, stage by stage.
#
# Usage: Rscript bench/scale.R [small|large] [folder] [threads]
#
# small (the default): up to 4,000 spots, a few minutes; large: up to 100,000, most of an hour on two cores.
# Writes scale.csv, a row for each case, and scale.png into the folder (default bench/results), and prints the
# growth in spots: cost ~ spots^exponent.

source(file.path(dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))), "measure.R"))

# Spots at random places, one in a unit square on average; sparse negative binomial counts; every tenth gene
# follows a smooth function.
simulate <- function(n_spots, n_genes) {
  set.seed(n_spots + n_genes)
  side <- sqrt(n_spots)
  coords <- data.frame(x = stats::runif(n_spots, 0, side), y = stats::runif(n_spots, 0, side))
  depth <- stats::rgamma(n_spots, 10, 10)
  wave <- exp(sin(coords$x / 6) + cos(coords$y / 9))
  blocks <- split(seq_len(n_genes), (seq_len(n_genes) - 1L) %/% max(1, 2e7 %/% n_spots))
  counts <- lapply(blocks, function(genes) {
    rate <- stats::rgamma(length(genes), 0.3, 2)
    mean <- outer(rate, depth)
    planted <- genes %% 10 == 0
    mean[planted, ] <- mean[planted, ] * rep(wave, each = sum(planted))
    block <- matrix(as.double(stats::rnbinom(length(mean), mu = mean, size = 2)), length(genes))
    methods::as(block, "CsparseMatrix")
  })
  counts <- do.call(rbind, unname(counts))
  dimnames(counts) <- list(paste0("g", seq_len(n_genes)), NULL)
  list(counts = counts, coords = coords)
}

# One case: the steps of spatial_test() one by one.
run_case <- function(n_spots, n_genes, threads, file) {
  steps <- asNamespace("patina")
  tissue <- simulate(n_spots, n_genes)
  simulated <- peak_memory()
  read <- timed(input <- steps$as_input(tissue$counts, tissue$coords))
  summarize <- timed(normalizer <- steps$new_normalizer(input, "anscombe"))
  kernels <- steps$kernel_table("SE", NULL, input, NULL)
  prepare <- timed(fitter <- steps$prepare_fitter(input, kernels, TRUE, threads, NULL))
  normalize <- timed(
    for (genes in steps$gene_blocks(input)) {
      block <- steps$input_block(input, genes)
      steps$gene_status(block)
      normalizer(block, genes)
    }
  )
  fit <- timed(
    fits <- steps$fit_genes(fitter, input, normalizer, threads = threads, progress = FALSE, call = NULL)
  )
  planted <- seq_len(n_genes) %% 10 == 0
  stages <- list(read = read, summarize = summarize, prepare = prepare, normalize = normalize, fit = fit)
  case <- data.frame(
    spots = n_spots,
    genes = n_genes,
    threads = threads,
    nonzero = length(tissue$counts@x) / length(tissue$counts),
    lapply(stages, \(stage) round(stage[["wall"]], 3)),
    # the fit normalises too
    total = round(sum(vapply(stages[names(stages) != "normalize"], \(stage) stage[["wall"]], 0)), 3),
    cpu = round(sum(vapply(stages[names(stages) != "normalize"], \(stage) stage[["cpu"]], 0)), 3),
    peak_mb = round(peak_memory()),
    data_mb = round(simulated),
    tested = sum(fits$status == "ok"),
    found = sum(fits$pval[planted] < 1e-4, na.rm = TRUE),
    planted = sum(planted),
    false = sum(fits$pval[!planted] < 1e-4, na.rm = TRUE),
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

# Exponents of growth in spots, over cases with the same number of genes.
growth <- function(cases) {
  for (genes in unique(cases$genes)) {
    of <- cases[cases$genes == genes, ]
    if (nrow(of) < 2L) {
      next
    }
    slope <- \(y) stats::coef(stats::lm(log(y) ~ log(of$spots)))[[2L]]
    cat(sprintf(
      "%d genes, %d to %d spots: time ~ n^%.2f (prepare ~ n^%.2f, fit ~ n^%.2f), peak memory ~ n^%.2f\n",
      genes,
      min(of$spots),
      max(of$spots),
      slope(of$total),
      slope(pmax(of$prepare, 1e-3)),
      slope(pmax(of$fit, 1e-3)),
      slope(of$peak_mb)
    ))
  }
}

draw <- function(cases, file) {
  stages <- c("read", "summarize", "prepare", "fit", "total", "peak_mb")
  long <- do.call(
    rbind,
    lapply(stages, function(stage) {
      data.frame(cases[c("spots", "genes")], stage = stage, value = cases[[stage]])
    })
  )
  long$stage <- factor(long$stage, stages)
  levels(long$stage)[6L] <- "peak memory, MB"
  long <- long[long$value > 0, ]
  picture <- ggplot2::ggplot(long, ggplot2::aes(.data$spots, .data$value, colour = factor(.data$genes))) +
    ggplot2::geom_line() +
    ggplot2::geom_point() +
    ggplot2::facet_wrap(~stage, scales = "free_y") +
    ggplot2::scale_x_log10() +
    ggplot2::scale_y_log10() +
    ggplot2::labs(x = "spots", y = "seconds (or MB)", colour = "genes") +
    ggplot2::theme_bw()
  ggplot2::ggsave(file, picture, width = 9, height = 5.5, dpi = 120)
}

arguments <- commandArgs(TRUE)
if (length(arguments) > 0L && arguments[1L] == "case") {
  run_case(as.integer(arguments[2L]), as.integer(arguments[3L]), as.integer(arguments[4L]), arguments[5L])
} else {
  library(ggplot2, include.only = ".data")
  size <- if (length(arguments) > 0L) match.arg(arguments[1L], c("small", "large")) else "small"
  folder <- if (length(arguments) > 1L) arguments[2L] else file.path(dirname(this_script()), "results")
  threads <- if (length(arguments) > 2L) arguments[3L] else parallel::detectCores()
  dir.create(folder, showWarnings = FALSE, recursive = TRUE)
  file <- file.path(normalizePath(folder), "scale.csv")
  unlink(file)
  grid <- rbind(
    expand.grid(spots = c(250, 500, 1000, 2000, 4000), genes = c(200, 2000)),
    if (size == "large") {
      rbind(
        expand.grid(spots = c(8000, 16000, 50000), genes = 200),
        data.frame(spots = c(4000, 100000), genes = c(20000, 100))
      )
    }
  )
  for (i in order(grid$spots * grid$genes)) {
    message(sprintf("%d spots x %d genes", grid$spots[i], grid$genes[i]))
    in_new_process(this_script(), "case", grid$spots[i], grid$genes[i], threads, shQuote(file))
  }
  cases <- utils::read.csv(file)
  cases <- cases[order(cases$genes, cases$spots), ]
  print(cases[names(cases) != "engines"], row.names = FALSE)
  growth(cases)
  draw(cases, file.path(dirname(file), "scale.png"))
}
