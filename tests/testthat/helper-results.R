# Small results with the columns that the verbs return, made by hand, and a small tissue.

# An 8 × 8 hexagonal lattice with a gradient, a stripe, noise and a gene that no spot expresses.
fake_tissue <- function() {
  coords <- expand.grid(x = 1:8, y = 1:8)
  coords$x <- coords$x + 0.5 * (coords$y %% 2)
  coords$y <- coords$y * sqrt(3) / 2
  counts <- rbind(
    Slope = round(4 * coords$x),
    Stripe = ifelse(abs(coords$y - 4) < 1, 20, 1),
    Noise = (seq_len(64) * 37) %% 11,
    Silent = 0
  )
  rownames(coords) <- colnames(counts) <- paste0("spot", 1:64)
  list(counts = counts, coords = coords)
}

fake_run <- function() {
  list(
    n = 64L,
    kernels = tibble::tibble(
      model = c(rep("SE", 3), "linear"),
      lengthscale = c(0.5, 2, 20.123, NA),
      engine = "dense",
      rank = 64L
    ),
    normalization = "pearson",
    pval_method = "calibrated",
    samples = 1L,
    coords = c("x", "y")
  )
}

# 40 genes with p-values down to 1e-400, a pseudo-gene and a gene that could not be tested.
fake_test <- function() {
  log10_pval <- c(-400, -120, -60, -(20:3), seq(-2.4, 0, length.out = 19))
  pval <- pmax(10^log10_pval, .Machine$double.xmin)
  tested <- tibble::tibble(
    gene = c("Slope", "Stripe", paste0("gene", 3:40)),
    status = "ok",
    n = 64L,
    model = "SE",
    lengthscale = 2,
    fsv = seq(0.9, 0.02, length.out = 40),
    fsv_se = rep(c(0.02, 0.1, 0.3, NA), 10),
    llr = 1,
    pval = pval,
    log10_pval = log10_pval,
    qval = pmin(1, pval * 40 / rank(pval)),
    delta = 1,
    mean = 0,
    var_spatial = 1,
    var_noise = 1,
    loglik = 0,
    loglik_null = -1,
    bic = 1
  )
  pseudo <- tested[4, ]
  pseudo$gene <- "log_total_count"
  pseudo$fsv <- 0.3
  untested <- tested[1, ]
  untested[] <- lapply(untested, function(column) column[NA_integer_])
  untested$gene <- "Silent"
  untested$status <- "constant"
  untested$n <- 64L
  results <- rbind(tested, pseudo, untested)
  tibble::new_tibble(results, class = "patina_test", patina = fake_run())
}

fake_models <- function() {
  hits <- fake_test()[1:9, ]
  models <- tibble::tibble(
    gene = hits$gene,
    model = rep(c("SE", "PER", "linear"), 3),
    lengthscale = 2,
    loglik = 0,
    bic = 1,
    fsv = 0.5,
    prob_SE = 0.8,
    prob_PER = 0.1,
    prob_linear = 0.1,
    pval = hits$pval,
    qval = hits$qval
  )
  tibble::new_tibble(models, class = "patina_models", patina = fake_run())
}

fake_patterns <- function(n_patterns = 2L) {
  tissue <- fake_tissue()
  values <- list(tissue$coords$x / 4 - 1, sin(tissue$coords$y), cos(tissue$coords$x))[seq_len(
    n_patterns
  )]
  structure(
    list(
      genes = tibble::tibble(
        gene = c("Slope", "Stripe", "Noise"),
        pattern = c(1L, 2L, 2L),
        membership = c(1, 0.99, 0.7)
      ),
      patterns = tibble::tibble(
        spot = rep(colnames(tissue$counts), n_patterns),
        x = rep(tissue$coords$x, n_patterns),
        y = rep(tissue$coords$y, n_patterns),
        pattern = rep(seq_len(n_patterns), each = 64L),
        value = unlist(values)
      )
    ),
    class = "patina_patterns"
  )
}

# The tissue as a SummarizedExperiment or one of its descendants.
fake_se <- function(class = "SummarizedExperiment") {
  testthat::skip_if_not_installed(class)
  tissue <- fake_tissue()
  make <- switch(
    class,
    SummarizedExperiment = SummarizedExperiment::SummarizedExperiment,
    SingleCellExperiment = SingleCellExperiment::SingleCellExperiment,
    SpatialExperiment = SpatialExperiment::SpatialExperiment
  )
  object <- make(
    assays = list(counts = tissue$counts),
    colData = S4Vectors::DataFrame(cluster = rep(1:4, 16), row.names = colnames(tissue$counts))
  )
  SummarizedExperiment::rowData(object)$symbol <- toupper(rownames(tissue$counts))
  object
}

# A picture is compared with its SVG file under the ggplot2 that made the files, and under every version
# by what it shows: each layer's marks and the words around them.
expect_picture <- function(title, plot) {
  testthat::expect_snapshot_output(cat(title, shown(plot), sep = "\n"))
  file <- paste0(gsub("[^a-z0-9]+", "-", tolower(title)), ".svg")
  testthat::announce_snapshot_file(name = file)
  version <- utils::packageVersion("ggplot2")
  if (version >= "3.4.0" && version < "3.5.0" && requireNamespace("vdiffr", quietly = TRUE)) {
    vdiffr::expect_doppelganger(title, plot)
  }
}

# What a plot shows, as lines of text: where each layer has its marks, panel by panel, and in how many
# colours; then all words.
shown <- function(plot) {
  file <- withr::local_tempfile(fileext = ".pdf")
  grDevices::pdf(file)
  withr::defer(grDevices::dev.off())
  layers <- lapply(seq_along(plot$layers), \(layer) {
    data <- ggplot2::layer_data(plot, layer)
    # labels keep apart by ggrepel, where that is installed
    kind <- sub("Repel$", "", class(plot$layers[[layer]]$geom)[[1L]])
    c(kind, vapply(split(data, data$PANEL, drop = TRUE), shown_panel, ""))
  })
  words <- sort(words_of(ggplot2::ggplotGrob(plot)), method = "radix")
  c(unlist(layers), paste("words:", paste(words, collapse = ", ")))
}

shown_panel <- function(marks) {
  columns <- intersect(c("x", "y", "yintercept", "size", "linewidth"), names(marks))
  ranges <- vapply(marks[columns], \(x) paste(unique(signif(range(x), 4)), collapse = " to "), "")
  colours <- stats::na.omit(unique(substr(c(marks$colour, marks$fill), 1, 7)))
  paste0(
    sprintf("  panel %s: %d drawn, ", marks$PANEL[[1L]], nrow(marks)),
    paste(columns, ranges, collapse = ", "),
    # mixtures on a scale may be rounded otherwise elsewhere
    if (length(colours) > 1L) sprintf(", %d colours", length(colours)) else paste(",", colours)
  )
}

words_of <- function(grob) {
  own <- if (inherits(grob, "text")) as.character(grob$label)
  inside <- c(grob$grobs, as.list(grob$children))
  unique(c(own, unlist(lapply(inside, words_of))))
}

# Draws everything, so that warnings of drawing are heard.
expect_draws <- function(plot) {
  file <- withr::local_tempfile(fileext = ".pdf")
  grDevices::pdf(file)
  withr::defer(grDevices::dev.off())
  testthat::expect_no_condition(print(plot), class = "warning")
  testthat::expect_s3_class(plot, "ggplot")
}

# A picture's layers as grobs, drawn on a page that is not kept.
drawn_panels <- function(plot) {
  withr::local_pdf(withr::local_tempfile(fileext = ".pdf"))
  table <- ggplot2::ggplotGrob(plot)
  table$grobs[grepl("^panel", table$layout$name)]
}
