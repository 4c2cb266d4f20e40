# Pictures: expression in the tissue, the test's volcano, patterns. All are plain ggplot objects.

#' Plot genes in the tissue
#'
#' One panel per gene. Spots are discs as wide as the distance between neighbouring spots, in the
#' units of the coordinates, so that the picture looks like the tissue at any size of the device.
#' One coordinate gives lines along it; of three, `axes` says which two are shown.
#'
#' @param x Expression: a data frame (spots in rows), a matrix, `dgCMatrix` or `DelayedMatrix`
#'   (genes in rows), or a `SummarizedExperiment` and what inherits from it, such as a
#'   `SpatialExperiment`. As for [spatial_test()].
#' @param coords Coordinates, one row per spot, in any unit of length. Not needed for a
#'   `SpatialExperiment`.
#' @param genes Names of genes, or a table of results with a column `gene`, possibly filtered or
#'   sorted: its first `n_genes` are shown. Of genes that share a name, the first in `x` is shown.
#' @param ... Passed on to the geom, for instance `alpha`.
#' @param assay Which assay of a `SummarizedExperiment` to show.
#' @param normalization `"none"` shows the values as they are in `x`; `"pearson"` and `"anscombe"`
#'   show the residuals that [spatial_test()] would test.
#' @param covariates,sample_info,sample_id As for [spatial_test()]. With more than one sample, every
#'   sample is a row of panels, and its coordinates count from its own lowest.
#' @param scale `"free"`: every gene has its own colour scale, from its lowest to its highest value.
#'   `"shared"`: one scale, so that genes can be compared.
#' @param trim Share of spots at either end whose values may lie beyond the ends of the colour
#'   scale; they get the colour of the end. It keeps a few extreme counts from hiding the rest; 0
#'   shows the whole range. Lines are not trimmed.
#' @param axes Which two of three coordinates to show: numbers or names.
#' @param n_genes How many genes of a table of results to show, at most.
#' @param spot_size Diameter of the discs, in units of the typical (median) distance between
#'   neighbouring spots.
#' @param ncol Number of columns of panels.
#' @return A ggplot object, to which scales, themes and titles can be added. Its data are a tibble
#'   with the columns `spot`, `sample` (of several), `x` and `y` (the coordinates), `gene`,
#'   `value` and `shown` (what the colour stands for).
#'
#' @section Errors:
#' `patina_error_argument` for an argument that does not make sense; `patina_error_names` for genes
#' that are not in `x`; and those of reading `x` and `coords`.
#'
#' @examples
#' tissue <- example_tissue()
#' coords <- tissue$sample_info[c("x", "y")]
#' plot_genes(tissue$counts, coords, genes = c("gene002", "gene004", "gene006"))
#'
#' # The genes with the smallest p-values, as the test sees them
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' top <- results[order(results$log10_pval), ]
#' plot_genes(tissue$counts, coords, genes = top, normalization = "pearson")
#' @export
plot_genes <- function(
  x,
  coords = NULL,
  genes,
  ...,
  assay = "counts",
  normalization = "none",
  covariates = NULL,
  sample_info = NULL,
  sample_id = NULL,
  scale = c("free", "shared"),
  trim = 0.01,
  axes = c(1, 2),
  n_genes = 6,
  spot_size = 1,
  ncol = NULL
) {
  scale <- rlang::arg_match(scale)
  if (!rlang::is_bare_numeric(trim, n = 1L) || !isTRUE(trim >= 0 && trim < 0.5)) {
    abort_patina("{.arg trim} must be one number from 0 to below 0.5.", class = "argument")
  }
  if (missing(genes)) {
    abort_patina(
      c(
        "{.arg genes} is missing: which genes are to be shown?",
        i = "Give names, as in {.code genes = \"Penk\"}, or a table of results."
      ),
      class = "argument"
    )
  }
  input <- as_input(
    x,
    coords,
    assay = assay,
    sample_info = sample_info,
    sample_id = sample_id,
    call = rlang::current_env()
  )
  index <- find_genes(genes, input$genes, n_genes)
  normalize <- new_normalizer(input, normalization, covariates, rlang::current_env())
  values <- normalize(input_block(input, index), index)
  values[!is.finite(values)] <- NA

  axes <- shown_axes(input$coords, axes)
  names <- input$genes[index]
  row <- rep(seq_along(input$spots), times = length(index))
  data <- tibble::tibble(
    spot = input$spots[row],
    sample = input$sample_id[row],
    !!!place_columns(input$coords[row, axes, drop = FALSE]),
    gene = factor(rep(names, each = length(input$spots)), names),
    value = as.vector(values)
  )
  raw <- identical(normalization, "none") && is.null(covariates)
  quantity <- if (raw) "expression" else "residual"
  tissue_plot(data, "gene", input, axes, quantity, scale, trim, spot_size, ncol, ...) +
    ggplot2::theme(strip.text.x = ggplot2::element_text(face = "italic"))
}

#' Plot tissue patterns
#'
#' One panel per pattern, entitled with its number of genes.
#'
#' @param patterns Result of [spatial_patterns()].
#' @inheritParams plot_genes
#' @param scale `"shared"`: one colour scale for all patterns, in standard deviations of a gene.
#'   `"free"`: every pattern from its smallest to its largest value.
#' @return A ggplot object. Its data are a tibble with the columns `spot`, `x` and `y` (the
#'   coordinates), `pattern` (the panel's title), `value` and `shown` (what the colour stands for).
#'
#' @section Errors:
#' `patina_error_argument` if `patterns` is not a result of [spatial_patterns()], or an argument
#' does not make sense.
#'
#' @examples
#' tissue <- example_tissue()
#' patterns <- spatial_patterns(
#'   tissue$counts,
#'   tissue$sample_info[c("x", "y")],
#'   genes = tissue$truth$gene[tissue$truth$pattern != "none"],
#'   n_patterns = 4,
#'   lengthscale = 3,
#'   threads = 1
#' )
#' plot_patterns(patterns)
#' @export
plot_patterns <- function(
  patterns,
  ...,
  scale = c("shared", "free"),
  axes = c(1, 2),
  spot_size = 1,
  ncol = NULL
) {
  scale <- rlang::arg_match(scale)
  check_patterns(patterns)
  table <- patterns$patterns
  ids <- sort(unique(table$pattern))
  n_genes <- tabulate(match(patterns$genes$pattern, ids), length(ids))
  titles <- sprintf("Pattern %s (%d %s)", ids, n_genes, ifelse(n_genes == 1L, "gene", "genes"))
  coords <- as.matrix(table[setdiff(names(table), c("spot", "pattern", "value"))])
  axes <- shown_axes(coords, axes)
  data <- tibble::tibble(
    spot = table$spot,
    !!!place_columns(coords[, axes, drop = FALSE]),
    pattern = factor(titles[match(table$pattern, ids)], titles),
    value = table$value
  )
  tissue <- list(coords = coords[table$pattern == ids[[1L]], , drop = FALSE])
  quantity <- "standardised\nexpression"
  tissue_plot(data, "pattern", tissue, axes, quantity, scale, 0, spot_size, ncol, ...)
}

#' Plot the test: fraction of spatial variance against p-value
#'
#' Significant genes are on top, the spatial ones on the right. Points are the larger the more
#' certain their fraction of spatial variance. The dashed line is the largest p-value that passes
#' the false discovery rate. The axis is made from `log10_pval`, so p-values far below the smallest
#' double have their place.
#'
#' @param results Result of [spatial_test()], possibly filtered. Genes without a p-value are left
#'   out.
#' @param models Result of [model_search()], to colour hits by the kind of function they follow.
#' @param ... Passed on to the points' geom, for instance `alpha`.
#' @param fdr False discovery rate: genes with `qval` below it are hits.
#' @param n_labels How many hits to label, smallest p-values first. Labels avoid each other if the
#'   package ggrepel is installed; otherwise those that would overlap are left out.
#' @param pseudo_genes Names in `results` that are not genes, such as a technical factor that was
#'   tested beside them: drawn as crosses, always labelled.
#' @return A ggplot object. Its data are `results` without untested genes and with the columns
#'   `neg_log10_pval`, `group` (colour) and `pseudo` added.
#'
#' @section Errors:
#' `patina_error_argument` if `results` or `models` lacks the columns needed, if no gene in
#' `results` has a p-value, or if an argument does not make sense.
#'
#' @examples
#' tissue <- example_tissue()
#' results <- spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1)
#' plot_test(results, n_labels = 5)
#'
#' # A ggplot object like any other
#' plot_test(results, n_labels = 0) + ggplot2::ggtitle("A simulated tissue")
#' @export
plot_test <- function(
  results,
  models = NULL,
  ...,
  fdr = 0.05,
  n_labels = 10,
  pseudo_genes = "log_total_count"
) {
  check_columns(results, c("gene", "fsv", "log10_pval", "qval"), "results")
  if (!rlang::is_bare_numeric(fdr, n = 1L) || !isTRUE(fdr > 0 && fdr < 1)) {
    abort_patina("{.arg fdr} must be one number between 0 and 1.", class = "argument")
  }
  check_whole_number(n_labels, min = 0)
  data <- tibble::as_tibble(as.data.frame(results))
  data <- data[!is.na(data$log10_pval) & !is.na(data$fsv), ]
  if (nrow(data) == 0L) {
    abort_patina(
      c(
        "{.arg results} has no gene with a p-value: there is nothing to plot.",
        i = "Was it filtered? Column {.field status} says why a gene was not tested."
      ),
      class = "argument"
    )
  }
  if (is.null(data[["fsv_se"]])) {
    data$fsv_se <- NA_real_
  }
  # What is unknown, or wider than half the range of a fraction, is shown as uncertain as can be.
  data$fsv_se <- pmin(data$fsv_se, 0.5)
  data$fsv_se[is.na(data$fsv_se)] <- 0.5
  data$neg_log10_pval <- -data$log10_pval
  data$pseudo <- data$gene %in% pseudo_genes
  hit <- !is.na(data$qval) & data$qval < fdr
  data$group <- test_groups(data, hit & !data$pseudo, models)
  data <- data[order(-as.integer(data$group), data$neg_log10_pval), ]

  points <- data[!data$pseudo, ]
  threshold <- fdr_threshold(data, fdr)
  plot <- ggplot2::ggplot(data, ggplot2::aes(x = .data$fsv, y = .data$neg_log10_pval)) +
    ggplot2::geom_point(
      ggplot2::aes(colour = .data$group, size = .data$fsv_se),
      data = points,
      stroke = 0,
      ...
    ) +
    ggplot2::scale_colour_manual(
      name = if (is.null(models)) "gene" else "model",
      values = group_colours(data$group),
      labels = group_labels(points$group),
      guide = ggplot2::guide_legend(order = 1, override.aes = list(size = 3))
    ) +
    ggplot2::scale_size_continuous(
      name = "std. error\nof FSV",
      range = c(3.5, 0.6),
      limits = c(0, 0.5),
      breaks = c(0.05, 0.15, 0.3, 0.5),
      labels = c("0.05", "0.15", "0.3", "0.5 or more"),
      guide = ggplot2::guide_legend(order = 2, override.aes = list(colour = "grey40"))
    ) +
    ggplot2::scale_x_continuous(limits = c(0, NA)) +
    ggplot2::scale_y_continuous(
      breaks = function(limits) unique(round(pretty(limits))),
      labels = function(breaks) {
        parse(text = ifelse(breaks == 0, "1", paste0("10^-", breaks)))
      }
    ) +
    ggplot2::labs(x = "fraction of spatial variance (FSV)", y = "p-value") +
    theme_patina()

  if (!is.null(threshold)) {
    plot <- plot +
      ggplot2::geom_hline(yintercept = threshold, linetype = "dashed", colour = "grey40") +
      ggplot2::annotate(
        "text",
        x = Inf,
        y = threshold,
        label = sprintf("FDR %s%%", format(100 * fdr)),
        hjust = 1.1,
        vjust = -0.6,
        size = 3,
        colour = "grey40"
      )
  }
  if (any(data$pseudo)) {
    plot <- plot +
      ggplot2::geom_point(data = data[data$pseudo, ], shape = 4, size = 3, stroke = 1.2)
  }
  hits <- points[points$group != "other", ]
  # Other hits have no label, but labels are to keep clear of them too.
  around <- utils::head(hits[order(hits$log10_pval), ], 500L)
  around$label <- ifelse(seq_len(nrow(around)) <= n_labels, around$gene, "")
  pseudo <- data[data$pseudo, ]
  pseudo$label <- pseudo$gene
  labelled <- rbind(around, pseudo)
  if (any(nzchar(labelled$label))) {
    plot <- plot + label_layer(labelled)
  }
  plot
}

#' Groups that colour the points of plot_test(), as a factor whose first levels are drawn on top
#' @noRd
test_groups <- function(data, hit, models, call = rlang::caller_env()) {
  if (is.null(models)) {
    return(factor(ifelse(hit, "significant", "other"), c("significant", "other")))
  }
  check_columns(models, c("gene", "model"), "models", call)
  model <- as.character(models$model)[match(data$gene, models$gene)]
  model[is.na(model)] <- "no model"
  known <- c("SE", "PER", "linear")
  levels <- c(known, sort(setdiff(model[hit], c(known, "no model"))), "no model", "other")
  factor(ifelse(hit, model, "other"), levels)
}

#' Colours that colour-blind readers can tell apart (Okabe and Ito), hits in colour, others grey
#' @noRd
group_colours <- function(group) {
  colours <- c(
    SE = "#0072B2",
    PER = "#D55E00",
    linear = "#009E73",
    "no model" = "grey30",
    significant = "#0072B2",
    other = "grey75"
  )
  new <- setdiff(levels(group), names(colours))
  c(colours, stats::setNames(rep_len(c("#CC79A7", "#E69F00", "#56B4E9"), length(new)), new))
}

#' Labels with the number of genes in each group
#' @noRd
group_labels <- function(group) {
  names <- c(
    SE = "SE (general)",
    PER = "PER (periodic)",
    "no model" = "hit without model",
    other = "not significant"
  )
  shown <- levels(group)
  known <- shown %in% names(names)
  text <- ifelse(known, names[shown], shown)
  stats::setNames(paste0(text, ": ", format(c(table(group)), big.mark = ",", trim = TRUE)), shown)
}

#' Height of the line between hits and the rest: halfway between them, NULL if there are no hits
#' @noRd
fdr_threshold <- function(data, fdr) {
  hit <- !is.na(data$qval) & data$qval < fdr
  if (!any(hit)) {
    return(NULL)
  }
  last <- min(data$neg_log10_pval[hit])
  next_one <- data$neg_log10_pval[!hit & data$neg_log10_pval < last]
  if (length(next_one) == 0L) last else (last + max(next_one)) / 2
}

#' Names beside points, none on top of another
#' @noRd
label_layer <- function(data, repel = rlang::is_installed("ggrepel")) {
  mapping <- ggplot2::aes(label = .data$label)
  face <- ifelse(data$pseudo, "plain", "italic")
  if (repel) {
    return(ggrepel::geom_text_repel(
      mapping,
      data = data,
      size = 3,
      fontface = face,
      seed = 1,
      bg.colour = "white",
      bg.r = 0.1,
      max.overlaps = Inf,
      # strong forces within little room keep labels apart in short pictures too
      box.padding = 0.25,
      force = 5,
      force_pull = 0.3,
      # iterations, not time, so that a picture is the same on every machine
      max.iter = 20000,
      max.time = Inf,
      point.padding = 0.2,
      min.segment.length = 0.2,
      segment.colour = "grey60"
    ))
  }
  ggplot2::geom_text(
    mapping,
    data = data,
    size = 3,
    fontface = face,
    check_overlap = TRUE,
    vjust = -0.8
  )
}

#' Positions in `known` of the genes to show: names, or the first `n` of a table of results
#' @noRd
find_genes <- function(genes, known, n, call = rlang::caller_env()) {
  from_table <- is.data.frame(genes)
  if (from_table) {
    check_columns(genes, "gene", "genes", call)
    check_whole_number(n, min = 1, arg = "n_genes", call = call)
    genes <- unique(as.character(genes$gene))
    # A tested pseudo-gene is not in `x`; the next gene takes its place.
    absent <- setdiff(utils::head(genes, n), known)
    if (length(absent) > 0L && any(genes %in% known)) {
      inform_patina("Not in {.arg x}, so not shown: {.val {first_few(absent)}}.")
      genes <- genes[genes %in% known]
    }
    genes <- utils::head(genes, n)
  }
  if (is.factor(genes)) {
    genes <- as.character(genes)
  }
  if (!is.character(genes) || length(genes) == 0L || anyNA(genes)) {
    abort_patina(
      c(
        "{.arg genes} must be names of genes, or a table of results with at least one row.",
        x = "It is {.obj_type_friendly {genes}} of length {length(genes)}."
      ),
      class = "argument",
      call = call
    )
  }
  genes <- unique(genes)
  absent <- setdiff(genes, known)
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{length(absent)} of {.arg genes} {?is/are} not in {.arg x}: {.val {first_few(absent)}}.",
        i = "Genes of {.arg x} are named like {.val {first_few(known, 3L)}}."
      ),
      class = "names",
      call = call
    )
  }
  match(genes, known)
}

#' Columns x and y, or x alone
#' @noRd
place_columns <- function(coords) {
  list(x = unname(coords[, 1L]), y = if (ncol(coords) == 2L) unname(coords[, 2L]))
}

#' Numbers of the columns of the coordinates to show
#' @noRd
shown_axes <- function(coords, axes, call = rlang::caller_env()) {
  if (ncol(coords) == 1L) {
    return(1L)
  }
  shown <- if (is.character(axes)) {
    match(axes, colnames(coords))
  } else {
    match(axes, seq_len(ncol(coords)))
  }
  if (length(shown) != 2L || anyNA(shown) || shown[[1L]] == shown[[2L]]) {
    abort_patina(
      c(
        "{.arg axes} must be two different coordinates, not {.val {axes}}.",
        i = "There are {ncol(coords)}: {.val {colnames(coords)}}."
      ),
      class = "argument",
      call = call
    )
  }
  shown
}

#' Panels of spots in the tissue, or of lines for one coordinate
#'
#' @param data A tibble with x, y (unless there is one coordinate), value and the column `panel`.
#' @param tissue List with the spots' `coords` and, perhaps, `sample_id`.
#' @param axes Numbers of the shown coordinates.
#' @param quantity What `value` is, for the legend.
#' @noRd
tissue_plot <- function(
  data,
  panel,
  tissue,
  axes,
  quantity,
  scale,
  trim,
  spot_size,
  ncol,
  ...,
  call = rlang::caller_env()
) {
  if (!rlang::is_bare_numeric(spot_size, n = 1L) || !isTRUE(spot_size > 0 && spot_size < Inf)) {
    abort_patina("{.arg spot_size} must be one number above 0.", class = "argument", call = call)
  }
  axes <- colnames(tissue$coords)[axes]
  by_sample <- !is.null(tissue$sample_id)
  if (length(axes) == 1L) {
    return(line_plot(data, panel, axes, quantity, scale, by_sample, ncol, ...))
  }

  if (by_sample) {
    # Slides may lie anywhere: side by side, they start at the same place.
    data$x <- data$x - stats::ave(data$x, data$sample, FUN = min)
    data$y <- data$y - stats::ave(data$y, data$sample, FUN = min)
  }
  # ggplot2 has one scale per plot: free ones are made by bringing every panel to 0..1.
  free <- scale == "free" && nlevels(data[[panel]]) > 1L
  data$shown <- if (free) {
    stats::ave(data$value, data[[panel]], FUN = function(x) rescale(x, trimmed_range(x, trim)))
  } else {
    data$value
  }
  limits <- if (free) c(0, 1) else trimmed_range(data$value, trim)
  diameter <- spot_size * spot_spacing(tissue$coords, tissue$sample_id)
  ggplot2::ggplot(data, ggplot2::aes(.data$x, .data$y, colour = .data$shown)) +
    geom_spot(diameter = diameter, ...) +
    ggplot2::coord_fixed() +
    (if (by_sample) {
      ggplot2::facet_grid(rows = ggplot2::vars(.data$sample), cols = ggplot2::vars(.data[[panel]]))
    } else {
      ggplot2::facet_wrap(ggplot2::vars(.data[[panel]]), ncol = ncol)
    }) +
    colour_scale(quantity, free, limits) +
    ggplot2::labs(x = axes[[1L]], y = axes[[2L]]) +
    theme_tissue()
}

colour_scale <- function(quantity, free, limits) {
  squish <- function(x, range = limits, ...) pmin(pmax(x, range[[1L]]), range[[2L]])
  ggplot2::scale_colour_viridis_c(
    name = if (free) paste0(quantity, ",\neach panel") else quantity,
    limits = limits,
    oob = squish,
    breaks = if (free) c(0, 1) else ggplot2::waiver(),
    labels = if (free) c("low", "high") else ggplot2::waiver(),
    na.value = "grey80"
  )
}

line_plot <- function(data, panel, axis, quantity, scale, by_sample, ncol, ...) {
  data <- data[order(data$x), ]
  mapping <- if (by_sample) {
    ggplot2::aes(.data$x, .data$value, colour = .data$sample)
  } else {
    ggplot2::aes(.data$x, .data$value)
  }
  colour <- if (by_sample) NULL else list(colour = "#31688E")
  line <- rlang::exec(
    ggplot2::stat_summary,
    # Spots at the same place: the line goes through their mean.
    fun = mean,
    geom = "line",
    na.rm = TRUE,
    !!!colour,
    ...
  )
  points <- rlang::exec(ggplot2::geom_point, size = 0.8, alpha = 0.6, na.rm = TRUE, !!!colour)
  plot <- ggplot2::ggplot(data, mapping) + points + line
  if (by_sample) {
    plot <- plot + ggplot2::scale_colour_viridis_d(name = "sample", end = 0.85)
  }
  plot +
    ggplot2::facet_wrap(
      ggplot2::vars(.data[[panel]]),
      ncol = ncol,
      scales = if (scale == "free") "free_y" else "fixed"
    ) +
    ggplot2::labs(x = axis, y = quantity) +
    theme_patina()
}

#' Range of `x` without the share `trim` at either end, unless nothing is left of it then; NULL if
#' there is no value
#' @noRd
trimmed_range <- function(x, trim) {
  x <- x[!is.na(x)]
  if (length(x) == 0L) {
    return(NULL)
  }
  range <- stats::quantile(x, c(trim, 1 - trim), names = FALSE)
  # A gene seen in few spots has most quantiles at zero.
  if (range[[1L]] < range[[2L]]) range else range(x)
}

#' `range` to 0..1, what is beyond to the ends, a constant to the middle
#' @noRd
rescale <- function(x, range) {
  if (is.null(range)) {
    return(x)
  }
  width <- range[[2L]] - range[[1L]]
  if (width == 0) 0 * x + 0.5 else pmin(pmax((x - range[[1L]]) / width, 0), 1)
}

#' Typical distance between neighbouring spots: the median over spots, in the coordinates' units
#'
#' A hundred spots are enough for a median, and keep the cost linear in the number of spots.
#' Spots in the same place are not neighbours. With several samples, the largest one counts.
#' @noRd
spot_spacing <- function(coords, sample = NULL) {
  if (!is.null(sample)) {
    coords <- coords[which(sample == names(which.max(table(sample)))), , drop = FALSE]
  }
  coords <- coords[stats::complete.cases(coords), , drop = FALSE]
  n <- nrow(coords)
  probes <- unique(round(seq(1, n, length.out = min(n, 100L))))
  points <- t(coords)
  nearest <- vapply(
    probes,
    function(i) {
      d2 <- colSums((points - points[, i])^2)
      d2 <- d2[d2 > 0]
      if (length(d2) > 0L) sqrt(min(d2)) else NA_real_
    },
    double(1L)
  )
  spacing <- stats::median(nearest, na.rm = TRUE)
  if (is.na(spacing)) 1 else spacing
}

# Points whose size is in the units of the coordinates, unlike geom_point()'s millimetres.
geom_spot <- function(..., diameter) {
  ggplot2::layer(
    geom = spot_geom,
    stat = "identity",
    position = "identity",
    params = list(diameter = diameter, na.rm = TRUE, ...)
  )
}

spot_geom <- ggplot2::ggproto(
  "GeomSpot",
  ggplot2::Geom,
  required_aes = c("x", "y"),
  default_aes = ggplot2::aes(colour = "grey30", alpha = NA),
  extra_params = c("na.rm", "diameter"),
  draw_key = ggplot2::draw_key_point,

  # As for tiles: the extent makes room for whole discs at the edges, and goes through scales.
  setup_data = function(data, params) {
    radius <- params$diameter / 2
    data$xmin <- data$x - radius
    data$xmax <- data$x + radius
    data$ymin <- data$y - radius
    data$ymax <- data$y + radius
    data
  },

  draw_panel = function(data, panel_params, coord) {
    place <- coord$transform(data, panel_params)
    # grid takes the smaller of a relative radius's width and height; with equal units on both axes
    # the larger fraction then gives the same disc on both.
    radius <- pmax(abs(place$xmax - place$xmin), abs(place$ymax - place$ymin)) / 2
    grid::circleGrob(
      place$x,
      place$y,
      r = grid::unit(radius, "npc"),
      gp = grid::gpar(fill = ggplot2::alpha(place$colour, place$alpha), col = NA)
    )
  }
)

theme_patina <- function() {
  ggplot2::theme_bw(base_size = 11) +
    ggplot2::theme(
      panel.grid = ggplot2::element_blank(),
      strip.background = ggplot2::element_blank(),
      # titles of narrow panels may be wider than the panel
      strip.clip = "off",
      strip.text = ggplot2::element_text(size = 10),
      strip.text.y = ggplot2::element_text(angle = 0)
    )
}

# The tissue needs no axes: its own shape tells where one is.
theme_tissue <- function() {
  theme_patina() +
    ggplot2::theme(
      panel.border = ggplot2::element_blank(),
      axis.title = ggplot2::element_blank(),
      axis.text = ggplot2::element_blank(),
      axis.ticks = ggplot2::element_blank()
    )
}
