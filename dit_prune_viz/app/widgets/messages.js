// The browser's end of `messages.py`: one event at a time, each answered before the next.
//
// pending():          whether there is something to be sent
// take():             it, as the content of an event; what it hands out counts as sent
// answered(changed):  the server has answered; false if nothing came of the event, and what was shown before is right
// settled(number):    everything has been answered, up to the event of that number (optional)
// pause:              milliseconds from one event to the next, at least
function messages({ pending, take, answered, settled = () => {}, pause = 0 }) {
  let number = 0; // of the last event that was sent
  let unanswered = false; // whether it waits for its answer
  let sentAt = -Infinity;
  let shownAt = 0; // when the server computed what is shown
  const later = timer(send);

  function send() {
    if (unanswered || later.running || !pending()) return;
    const early = pause - (performance.now() - sentAt);
    if (early > 0) return later.start(early);
    sentAt = performance.now();
    unanswered = true;
    number += 1;
    trigger("input", { ...take(), number });
  }

  watch("answered", () => {
    const answer = props.answered;
    if (!unanswered || answer?.number !== number) return;
    unanswered = false;
    const changed = answer.at !== null;
    if (changed) shownAt = Math.max(shownAt, answer.at);
    answered(changed);
    send();
    if (!unanswered && !pending()) settled(number);
  });

  return {
    send,
    get unanswered() {
      return unanswered;
    },
    // The widget's value; null if it was computed before the last answer, in which case a newer one is on its way.
    read(empty) {
      const value = { ...empty, at: 0, ...(props.value && JSON.parse(props.value)) };
      if (value.at < shownAt) return null;
      shownAt = value.at;
      return value;
    },
  };
}
