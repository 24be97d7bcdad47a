// A table whose cells change in place: a row keeps its elements for as long as it is shown.
// So focus, a selection and a pressed button outlive every update. See tables.py.
export default {
  template: `
    <div role="region" class="table" :aria-label="label">
      <div v-if="shown.size" class="bar">
        <label v-if="sortable.length" class="sorter">
          Sort by
          <select :value="sortedBy" @change="$emit('sort', first($event.target.value))">
            <option v-for="column in sortable" :value="column.name">{{ column.label }}</option>
          </select>
          <button v-if="sortedBy" type="button" @click="turn(sortedBy)">
            {{ descending ? 'largest first' : 'smallest first' }}
          </button>
        </label>
        <span class="hint" role="status">
          <button v-if="shown.hint" type="button" @click="$emit('again')">{{ shown.hint }}</button>
        </span>
        <details v-if="columns.length > 4" ref="choice" @keydown.esc="close">
          <summary>Columns</summary>
          <fieldset>
            <legend class="unseen">Columns of the table</legend>
            <label v-for="column in columns.slice(1)">
              <input
                type="checkbox" :checked="visible.includes(column)"
                @change="$emit('columns', column.name, $event.target.checked)"
              >{{ column.label }}
            </label>
          </fieldset>
        </details>
        <label>
          Rows
          <select :value="shown.size" @change="$emit('size', Number($event.target.value))">
            <option v-for="size in sizes" :value="size">{{ size }}</option>
          </select>
        </label>
        <span class="turns">
          <span class="range">{{ range }}</span>
          <template v-if="shown.total > shown.size">
            <button
              v-for="[name, sign, page] in turns" type="button" class="turn"
              :aria-label="name" :disabled="page < 1 || page > pages" @click="$emit('page', page)"
            >{{ sign }}</button>
          </template>
        </span>
      </div>
      <div class="scroller" ref="scroller" :tabindex="scrolls ? 0 : null">
        <table>
          <thead>
            <tr>
              <th v-for="column in visible" scope="col" :class="classes(column)" :aria-sort="order(column)">
                <button
                  v-if="column.sortable" type="button"
                  :title="'sort by ' + column.label" @click="turn(column.name)"
                >{{ column.label }}</button>
                <template v-else>{{ column.label }}</template>
              </th>
            </tr>
          </thead>
          <tbody ref="body" @pointerenter="look" @pointerleave="look" @focusin="look" @focusout="look">
            <tr v-for="row in shown.rows" :key="generation + ' ' + row.id">
              <td
                v-for="column in visible" :data-label="column.label"
                :class="[...classes(column), { zero: row[column.name] === '0' }]"
              >
                <component
                  v-if="wraps(column)" :is="hrefOf(row, column) ? 'a' : 'span'" :href="hrefOf(row, column)"
                ><span
                  v-for="part in parts(row[column.name])" :class="{ whole: isWhole(part) }"
                >{{ part }}<wbr></span></component>
                <button
                  v-else-if="column.kind == 'open'" type="button" class="link" @click="$emit('open', row.id)"
                >{{ row[column.name] }}</button>
                <span v-else-if="column.kind == 'state'" :class="['state', row.tone]">{{ row[column.name] }}</span>
                <svg
                  v-else-if="column.kind == 'spark'" class="spark" viewBox="0 0 120 26"
                  preserveAspectRatio="none" role="img" :aria-label="row.peak"
                ><title>{{ row.peak }}</title><path :d="row[column.name]" /></svg>
                <time v-else-if="column.kind == 'local'">{{ localTime(row[column.name]) }}</time>
                <span v-else>{{ row[column.name] }}</span>
              </td>
            </tr>
          </tbody>
        </table>
      </div>
    </div>`,
  props: { label: String, columns: Array, sizes: Array, view: Object },
  emits: ["again", "columns", "hands", "open", "page", "size", "sort"],
  data() {
    return { shown: this.view, generation: 0, scrolls: false };
  },
  computed: {
    visible() {
      const chosen = this.shown.chosen;
      const isShown = (column) => (chosen ? chosen.includes(column.name) : column.usual);
      return this.columns.filter((column, place) => !place || isShown(column));
    },
    sortable() {
      return this.visible.filter((column) => column.sortable);
    },
    descending() {
      return this.shown.sort.startsWith("-");
    },
    sortedBy() {
      return this.shown.sort.replace("-", "");
    },
    pages() {
      return Math.ceil(this.shown.total / this.shown.size);
    },
    turns() {
      const page = this.shown.page;
      return [
        ["First page", "«", page > 1 ? 1 : 0],
        ["Previous page", "‹", page - 1],
        ["Next page", "›", page + 1],
        ["Last page", "»", page < this.pages ? this.pages : this.pages + 1],
      ];
    },
    range() {
      const first = (this.shown.page - 1) * this.shown.size;
      const last = first + this.shown.rows.length;
      return `${Math.min(first + 1, last)}-${last} of ${this.shown.total.toLocaleString("en")}`;
    },
  },
  watch: {
    view(view) {
      this.shown = view;
    },
  },
  mounted() {
    this.waiting = []; // patches that came while a button was pressed
    this.pressed = false;
    this.hands = false;
    this.listeners = {
      pointerdown: this.press,
      pointerup: this.release,
      pointercancel: this.release,
      pointermove: (event) => this.pressed && !event.buttons && this.release(),
      selectionchange: this.look,
    };
    Object.entries(this.listeners).forEach((pair) => document.addEventListener(...pair));
    this.measure();
  },
  updated() {
    this.measure();
  },
  unmounted() {
    Object.entries(this.listeners).forEach((pair) => document.removeEventListener(...pair));
  },
  methods: {
    localTime(at) {
      return siamese.localTime(at);
    },
    wraps(column) {
      return column.kind === "link" || column.kind === "wide";
    },
    hrefOf(row, column) {
      return (column.kind === "link" && row[column.href]) || null;
    },
    parts(text) {
      // A name wraps behind a sign within it; a script and a flag nowhere.
      return (text || "").split(/((?:--|\.\/)\w[\w.-]{0,30})|(?<=\w[@:/._])(?=\w)/).filter(Boolean);
    },
    isWhole(part) {
      return part.startsWith("--") || part.startsWith("./");
    },
    classes(column) {
      return [`is-${column.kind}`, { first: column.first, broad: column.broad && !this.shown.chosen }];
    },
    order(column) {
      if (column.name !== this.sortedBy) return null;
      return this.descending ? "descending" : "ascending";
    },
    first(name) {
      // Of numbers the largest come first, of texts those that begin with A.
      const column = this.columns.find((each) => each.name === name);
      return column.kind === "number" ? `-${name}` : name;
    },
    turn(name) {
      const isTurned = name === this.sortedBy;
      const turned = this.descending ? name : `-${name}`;
      this.$emit("sort", isTurned ? turned : this.first(name));
    },
    press(event) {
      this.pressed = true;
      if (!this.$refs.choice?.contains(event.target)) this.close();
    },
    close() {
      this.$refs.choice?.removeAttribute("open");
    },
    release() {
      // The click comes after this event: it must find the element that was pressed.
      setTimeout(() => {
        this.pressed = false;
        this.waiting.splice(0).forEach(this.patch);
      });
    },
    look() {
      // Rows keep their places while a pointer, the focus or a selection is among them.
      setTimeout(() => {
        const body = this.$refs.body;
        if (!body) return;
        const selection = document.getSelection();
        const isSelected = !selection.isCollapsed && body.contains(selection.anchorNode);
        const hands = isSelected || body.matches(":hover") || body.contains(document.activeElement);
        if (hands !== this.hands) this.$emit("hands", hands);
        this.hands = hands;
      });
    },
    measure() {
      const box = this.$refs.scroller;
      this.scrolls = box.scrollHeight > box.clientHeight || box.scrollWidth > box.clientWidth;
    },
    patch(update) {
      if (this.pressed) {
        this.waiting.push(update);
        return;
      }
      if (update.state.number <= this.shown.number) return;
      const rows = new Map(this.shown.rows.map((row) => [row.id, row]));
      for (const [id, cells] of update.changes) {
        rows.set(id, Object.assign(rows.get(id) || { id }, cells));
      }
      if (update.order) this.arrange(update.order.map((id) => rows.get(id)));
      Object.assign(this.shown, update.state);
    },
    arrange(rows) {
      // Rows that would move are made anew, for nothing may slide under a pointer.
      const before = this.shown.rows;
      const kept = before.filter((row) => rows.includes(row));
      const focused = before[this.focusedPlace()];
      if (kept.some((row, place) => row !== rows[place])) this.generation++;
      this.shown.rows = rows;
      if (focused) this.$nextTick(() => this.focus(rows.indexOf(focused)));
    },
    focusedPlace() {
      const lines = [...this.$refs.body.rows];
      return lines.findIndex((line) => line.contains(document.activeElement));
    },
    focus(place) {
      // The focus may come while a new order is on its way: it stays on its row.
      const line = this.$refs.body.rows[place];
      if (!line || line.contains(document.activeElement)) return;
      line.querySelector("a, button")?.focus({ preventScroll: true });
    },
  },
};
