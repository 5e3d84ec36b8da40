"""How the page looks: system fonts, nothing from outside, colours that can be read in light and dark."""

from __future__ import annotations

import gradio as gr

FONT = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")

CSS = """
.gradio-container { max-width: min(60rem, 100%) !important; min-width: 0 !important; margin: 0 auto !important; }
@media (max-width: 40rem) { .gradio-container > .main, .gradio-container .app { padding: .5rem !important; } }
@media (max-width: 40rem) { #pair { flex-direction: column !important; } #pair > * { width: 100% !important; } }
.gradio-container .column, .gradio-container .block { min-width: 0; }
*:focus-visible { outline: 3px solid var(--color-accent) !important; outline-offset: 2px; }
.prose, .prose * { color: var(--body-text-color); }
.fault { border-left: 4px solid #b91c1c; padding: .5rem .75rem; }
.done { border-left: 4px solid #15803d; padding: .5rem .75rem; }
.working, .nothing { padding: .5rem .75rem; border-left: 4px solid var(--color-accent); }
.decision { font-size: 1.25rem; font-weight: 600; margin: .25rem 0; }
.aside { color: var(--body-text-color-subdued) !important; font-size: .9rem; }
.bars, .hits { list-style: none; padding: 0; margin: .5rem 0; }
.bar { display: grid; grid-template-columns: 1fr auto; gap: .1rem .75rem; margin: .4rem 0; }
.bar.chosen .name { font-weight: 600; }
.bar .track { grid-column: 1 / 3; height: .6rem; background: var(--border-color-primary); border-radius: .3rem; }
.bar .track > span { display: block; height: 100%; background: var(--color-accent); border-radius: .3rem; }
.hits { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; }
.hits li { display: flex; flex-direction: column; gap: .25rem; overflow-wrap: anywhere; }
.hits img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #fff; border-radius: .4rem; }
.scrolls { overflow-x: auto; }
.scrolls table { width: 100%; border-collapse: collapse; }
.scrolls caption { text-align: left; font-weight: 600; padding: .25rem 0; }
.scrolls th, .scrolls td {
  text-align: left; padding: .3rem .6rem;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
}
"""

DROP = """
<div class="drop">
  <label><span>${label}: drop one here, or choose a file</span>
    <input type="file" accept="image/png,image/jpeg,image/webp,image/gif,image/bmp"></label>
  {{#if value}}<img src="{{value}}" alt="the chosen picture"><button type="button">Remove picture</button>{{/if}}
</div>
"""
DROP_CSS = """
.drop { border: 2px dashed var(--body-text-color-subdued); border-radius: .5rem; padding: .75rem; }
.drop label { display: block; color: var(--body-text-color); }
.drop input { display: block; margin: .5rem 0; max-width: 100%; color: var(--body-text-color); }
.drop img { max-height: 12rem; max-width: 100%; display: block; margin: .5rem 0; }
.drop button { text-decoration: underline; color: var(--body-text-color); padding: .25rem 0; }
"""
DROP_SCRIPT = """
const take = (file) => {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    props.value = reader.result;
    setTimeout(() => document.activeElement === document.body && element.querySelector('input')?.focus(), 50);
  };
  reader.readAsDataURL(file);
};
element.addEventListener('change', (event) => take(event.target.files?.[0]));
element.addEventListener('dragover', (event) => event.preventDefault());
element.addEventListener('drop', (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
element.addEventListener('click', (event) => { if (event.target.closest('button')) props.value = ''; });
"""
"""The picture goes from the browser to the core as a data URI: no file is written, and no address fetched."""


def theme() -> gr.themes.Base:
    """Gradio's plain theme with system fonts and readable colours."""
    look = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=FONT,
        font_mono=MONO,
    )
    return look.set(
        color_accent="*primary_600",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_400",
        input_border_width="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )
